"""What a page asks a local server, and what it is answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from synthvlm.errors import SynthVLMError

__all__ = ["TYPES", "BadRequestError", "Handler", "Request", "Response", "as_json", "files"]

#: Files of pages, by the ends of their names.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}


class BadRequestError(SynthVLMError):
    """A request that cannot be answered; the message is for its sender."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a handler is given.

    Attributes:
        path: What follows the route, decoded: of ``/image/3/1`` for ``/image/`` it is ``3/1``.
        query: The query's values by name; of several of one name the last.
        body: Of a POST.
    """

    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> dict[str, Any]:
        """The body as a JSON object.

        Raises:
            BadRequestError: It is none.
        """
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise BadRequestError("the body is not a JSON object")
        return value

    def number(self, name: str, default: int, most: int) -> int:
        """A whole number of the query, from 0 to ``most``.

        Raises:
            BadRequestError: It is none.
        """
        text = self.query.get(name, "")
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 16) or int(text) > most:
            raise BadRequestError(f"{name} is not a whole number from 0 to {most:,}")
        return int(text)


@dataclass(frozen=True, slots=True)
class Response:
    """What a handler returns.

    Attributes:
        body: The content.
        type: Its media type.
        status: The HTTP status.
        lasting: Whether the browser may keep it as long as the server runs.
    """

    body: bytes
    type: str = "application/json"
    status: int = HTTPStatus.OK
    lasting: bool = False


Handler = Callable[[Request], Response]


def as_json(value: Any, status: int = HTTPStatus.OK) -> Response:
    """A response of JSON; numbers that are not finite become null."""
    text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)
    return Response(text.encode("utf-8", "replace"), "application/json; charset=utf-8", status)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None  # a comparison with NaN is False
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def files(folder: Path) -> dict[tuple[str, str], Handler]:
    """Routes to the files of a folder of the package, which are read now.

    ``index.html`` is the page ``/``.
    """
    routes: dict[tuple[str, str], Handler] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix in TYPES:
            name = "" if file.name == "index.html" else file.name
            routes["GET", f"/{name}"] = _always(Response(file.read_bytes(), TYPES[file.suffix]))
    return routes


def _always(response: Response) -> Handler:
    return lambda _: response
