"""The address of an endpoint and the key to it; the key shows nowhere but in the HTTP header."""

from __future__ import annotations

import json
import os
from urllib.parse import urlsplit

from synthvlm.errors import RecipeError

__all__ = ["ApiKey", "check_base_url", "key_from_environment"]

_MASK = "[API key]"
_SHORTEST_SECRET = 16


class ApiKey:
    """A key, or none, that does not show when printed."""

    def __init__(self, value: str) -> None:
        """Hold the key, "" for none."""
        self._value = value

    def __repr__(self) -> str:
        return "ApiKey(set)" if self._value else "ApiKey(none)"

    def headers(self) -> dict[str, str]:
        """The header that carries it."""
        return {"Authorization": f"Bearer {self._value}"} if self._value else {}

    def masked(self, text: str) -> str:
        """The text with the key replaced wherever it stands in it."""
        return text.replace(self._value, _MASK) if self._value else text

    def masked_bytes(self, body: bytes) -> bytes:
        """The body of a response likewise, as it is or as JSON writes it.

        Short keys stay: those are words that servers on this machine take, and captions may hold.
        """
        if len(self._value) < _SHORTEST_SECRET:
            return body
        for form in {self._value, json.dumps(self._value)[1:-1]}:
            body = body.replace(form.encode("ascii"), _MASK.encode("ascii"))
        return body


def key_from_environment(name: str) -> ApiKey:
    """The key in an environment variable; none if it is not set or empty.

    Raises:
        RecipeError: It holds what no HTTP header can.
    """
    value = os.environ.get(name, "").strip()
    if not value.isascii() or not value.isprintable() or " " in value:
        raise RecipeError(
            f"the API key in the environment variable {name} holds spaces, control characters or "
            "characters beyond ASCII; set it to the key alone"
        )
    return ApiKey(value)


def check_base_url(url: str) -> str:
    """The address without a slash at its end.

    Raises:
        RecipeError: It is no plain http(s) address, or holds a user, password or query, which
            would show in error messages.
    """
    example = "give one like http://localhost:8000/v1"
    try:
        parts = urlsplit(url)
        plain = bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        raise RecipeError(f"an endpoint's address is no URL; {example}") from None
    if "@" in parts.netloc or parts.query or parts.fragment:
        # Not repeated here: it may hold a secret.
        raise RecipeError(
            "an endpoint's address must hold no user, password, query or fragment; "
            f"{example}, and the key in an environment variable"
        )
    if parts.scheme not in ("http", "https") or not plain or url != "".join(url.split()):
        raise RecipeError(f"{url!r} is no address of an endpoint; {example}")
    return url.rstrip("/").removesuffix("/chat/completions").removesuffix("/images/generations")
