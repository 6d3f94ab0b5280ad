"""How an endpoint is reached and asked; the key to it shows nowhere but in the HTTP header."""

from __future__ import annotations

import json
import os
import re
from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from synthvlm.components.settings import InHash, Settings
from synthvlm.errors import RecipeError

__all__ = [
    "ApiKey",
    "Connection",
    "ConnectionSettings",
    "EndpointSettings",
    "ImageEndpointSettings",
]

_MASK = "[API key]"
_SHORTEST_SECRET = 16


@dataclass(frozen=True, slots=True)
class Connection:
    """Where an endpoint is, and how it is asked.

    Attributes:
        url: Its base address, ``http://localhost:8000/v1`` say; the address of the chat or image
            route below it does as well.
        api_key_env: Environment variable that holds the key. Where it is not set, none is sent,
            which local servers accept.
        concurrency: Requests in work at one time, at least 1.
        timeout_s: Seconds for one try, from connecting to the last byte. Most image servers make
            one image after the other, so the time in their queue is part of it.
        max_tries: Tries of a request, at least 1.
        backoff_s: Seconds (more or less) before the second try; doubles with each further one.
        max_wait_s: Longest wait. A server that asks for a longer one is left alone
            (``EndpointError``); own backoff grows no further.
        max_requests: Requests to send at most, over the life of a client; None for no limit.
    """

    url: str
    _: KW_ONLY
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 8
    timeout_s: float = 120.0
    max_tries: int = 6
    backoff_s: float = 1.0
    max_wait_s: float = 300.0
    max_requests: int | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            RecipeError: The address is none, or holds a password.
            ValueError: A number is out of its range.
        """
        _base_url(self.url)
        if self.concurrency < 1 or self.max_tries < 1 or self.timeout_s <= 0 or self.backoff_s < 0:
            raise ValueError("concurrency and max_tries must be at least 1, times above 0")

    def route(self, path: str) -> str:
        """The address of a route of the endpoint, such as ``/chat/completions``."""
        return _base_url(self.url) + path

    def api_key(self) -> ApiKey:
        """The key, from the environment; none if the variable is not set or empty.

        Raises:
            RecipeError: It holds what no HTTP header can.
        """
        value = os.environ.get(self.api_key_env, "").strip()
        if not value.isascii() or not value.isprintable() or " " in value:
            raise RecipeError(
                f"the API key in the environment variable {self.api_key_env} holds spaces, control "
                "characters or characters beyond ASCII; set it to the key alone"
            )
        return ApiKey(value)


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


def _base_url(url: str) -> str:
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


class ConnectionSettings(Settings):
    """Where an endpoint is, and how it is asked."""

    url: Annotated[str, InHash.NEVER] = Field(
        min_length=1, description="Base URL, e.g. http://localhost:8000/v1."
    )
    api_key_env: Annotated[str, InHash.NEVER] = Field(
        "OPENAI_API_KEY", description="Name of the environment variable that holds the key."
    )
    concurrency: Annotated[int, InHash.NEVER] = Field(
        16, ge=1, description="Requests under way at a time."
    )
    timeout_s: Annotated[float, InHash.NEVER] = Field(
        120.0, gt=0.0, description="Longest wait for a reply, seconds."
    )
    max_requests: Annotated[int | None, InHash.NEVER] = Field(
        None, ge=1, description="Budget of one invocation."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        # The messages do not repeat the value: it may be a secret in the wrong place.
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.api_key_env):
            raise ValueError("api_key_env must be the name of an environment variable, no key")
        try:
            parts = urlsplit(self.url)
        except ValueError:
            raise ValueError("url is no URL") from None
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(
                "url must hold no user, password, query or fragment: recipes are written to disk"
            )
        return self

    def connection(self) -> Connection:
        """The same as the clients of endpoints take it."""
        from synthvlm.endpoints.connection import Connection

        return Connection(
            self.url,
            api_key_env=self.api_key_env,
            concurrency=self.concurrency,
            timeout_s=self.timeout_s,
            max_requests=self.max_requests,
        )


class EndpointSettings(ConnectionSettings):
    """A chat endpoint (vLLM, llama.cpp server, a hosted one)."""

    seed: Annotated[int | None, InHash.NEVER] = Field(
        0, description="Sent along; null for servers that refuse a seed."
    )
    replies: Annotated[str | None, InHash.NEVER] = Field(
        None, description="Local folder where replies are kept; default: in the run folder."
    )
    max_tokens: Annotated[int | None, InHash.NEVER] = Field(
        None, ge=1, description="Budget of one invocation."
    )


class ImageEndpointSettings(ConnectionSettings):
    """An image endpoint (vLLM-Omni, SGLang, LocalAI, a hosted one)."""

    concurrency: Annotated[int, InHash.NEVER] = Field(
        8, ge=1, description="Requests under way at a time."
    )
    timeout_s: Annotated[float, InHash.NEVER] = Field(
        300.0, gt=0.0, description="Longest wait for an image, seconds."
    )
    send_seed: Annotated[bool, InHash.ALWAYS] = Field(
        True, description="False for servers that refuse a seed."
    )
    response_format: Annotated[Literal["b64_json"] | None, InHash.NEVER] = Field(
        "b64_json", description="null for servers that refuse the field."
    )
    extra: dict[str, Any] = Field(
        {}, description="Further fields of each request, e.g. {num_inference_steps: 30}."
    )

    @model_validator(mode="after")
    def _check_extra(self) -> Self:
        try:
            json.dumps(self.extra, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"extra cannot be sent: {error}") from error
        return self
