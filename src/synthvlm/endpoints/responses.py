"""The body of an HTTP response, and what it means: an answer, or which kind of failure.

It is untrusted input, and is read no further than a limit.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx2

__all__ = [
    "ACCEPTED_ENCODING",
    "MAX_BODY_BYTES",
    "Completion",
    "Failure",
    "Kind",
    "Response",
    "ServerError",
    "UnusableBodyError",
    "excerpt",
    "parsed",
    "read_body",
    "read_completion",
    "read_failure",
    "read_server_error",
    "retry_after_seconds",
]

#: A longer body, also one that is longer when it is decompressed, is no answer.
MAX_BODY_BYTES = 1 << 28

#: What requests ask for; compressors that decode all that came at once cannot be held to a limit.
ACCEPTED_ENCODING = "gzip"

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


class UnusableBodyError(Exception):
    """The body is too long, or encoded otherwise than asked."""


async def read_body(response: httpx2.Response) -> bytes:
    """The decoded body of a response that is open as a stream.

    Raises:
        UnusableBodyError: It is longer than ``MAX_BODY_BYTES``, damaged, or encoded otherwise than
            by ``ACCEPTED_ENCODING``.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "deflate"):
        raise UnusableBodyError(
            f"the answer is encoded as {encoding[:50]!r}, which was not asked for"
        )
    decoder = None if encoding == "identity" else zlib.decompressobj(_GZIP_OR_ZLIB)
    body = bytearray()
    async for chunk in response.aiter_raw():
        if decoder is not None:
            try:
                chunk = decoder.decompress(chunk, MAX_BODY_BYTES + 1 - len(body))
            except zlib.error as error:
                raise UnusableBodyError(f"the answer is damaged: {error}") from error
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise UnusableBodyError(f"the answer is longer than {MAX_BODY_BYTES >> 20} MiB")
    return bytes(body)


#: Statuses that are about the endpoint (key, account, address, model), whatever the request holds.
_ABOUT_THE_ENDPOINT = frozenset({401, 402, 404, 405})
#: Statuses below 500 that pass by themselves: timeout, conflict, too early, too many requests.
_PASSING = frozenset({408, 409, 425, 429})
#: OpenAI's code of a 429 that waiting does not mend.
_NO_CREDIT = "insufficient_quota"


class Kind(Enum):
    """What to do about a failed request."""

    PASSING = "try again"
    REFUSED = "this request never will be answered; others may"
    UNUSABLE = "no request will be answered"


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response as it came."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Completion:
    """A chat completion.

    Attributes:
        text: The model's reply, "" where it is empty.
        finish_reason: Why it stopped: ``stop``, ``length``, ``content_filter``, ... or None.
        tokens: All tokens of request and reply by the server's ``usage``, None if it reports none.
        first_tokens: The likeliest first tokens of the reply, each with the logarithm of its
            probability; empty where none were asked for, or the server reports none.
    """

    text: str
    finish_reason: str | None
    tokens: int | None
    first_tokens: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that failed.

    Attributes:
        kind: What to do about it.
        reason: What happened, in one line; the server's message is part of it.
        retry_after_s: Seconds that the server asks to wait, or None.
    """

    kind: Kind
    reason: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class ServerError:
    """A server's report of an error, in any of the usual forms.

    Attributes:
        code: OpenAI's ``error.code``, or None.
        field: The field of the request that is at fault, or None: OpenAI's ``error.param``, or
            from FastAPI's ``detail``.
        message: In one line; of a body in no usual form, the body.
    """

    code: str | None
    field: str | None
    message: str


def read_completion(response: Response) -> Completion | Failure:
    """Read the response to a chat request; never raises, whatever it holds."""
    if response.status != 200:
        return read_failure(response, read_server_error(response.content))
    # A body that is no completion was most likely cut, or is a proxy's page in between.
    reason = f"the answer is no chat completion: {excerpt(response.content)}"
    return _completion(response.content) or Failure(Kind.PASSING, reason)


def read_failure(response: Response, error: ServerError) -> Failure:
    """What a response with another status than 200 means, whatever was asked for."""
    status = response.status
    reason = f"HTTP {status}: {error.message}"
    if status in _ABOUT_THE_ENDPOINT or error.code == _NO_CREDIT or status < 400:
        return Failure(Kind.UNUSABLE, reason)
    if status in _PASSING or status >= 500:
        wait = retry_after_seconds(response.headers.get("Retry-After"))
        return Failure(Kind.PASSING, reason, wait)
    return Failure(Kind.REFUSED, reason)


def read_server_error(content: bytes) -> ServerError:
    """The report in the body of an error; never raises."""
    body = parsed(content)
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        if (invalid := _validation_error(error.get("detail"))) is not None:
            return invalid
        code, field = error.get("code"), error.get("param")
        for name in ("message", "detail", "error"):
            if error.get(name):
                return ServerError(
                    None if code is None else str(code),
                    field if isinstance(field, str) else None,
                    _line(str(error[name])),
                )
    return ServerError(None, None, _line(error) if isinstance(error, str) else excerpt(content))


def _validation_error(detail: Any) -> ServerError | None:
    """FastAPI's list of what is wrong with a request: the first of it."""
    first = detail[0] if isinstance(detail, list) and detail else None
    if not isinstance(first, dict) or "msg" not in first:
        return None
    where = first.get("loc")
    field = str(where[1]) if isinstance(where, list) and len(where) > 1 else None
    return ServerError(None, field, _line(f"{field or 'body'}: {first['msg']}"))


def parsed(content: bytes) -> Any:
    """The JSON value of a body; None where it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def retry_after_seconds(value: str | None) -> float | None:
    """Seconds (0 or more) of a ``Retry-After`` header: a number or an HTTP date; else None."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if seconds < float("inf") else None


def _completion(content: bytes) -> Completion | None:
    answer = parsed(content)
    try:
        choice = answer["choices"][0]
        text = choice["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return None
    if not isinstance(text, str | None):
        return None
    reason = choice.get("finish_reason")
    return Completion(
        text or "",
        reason if isinstance(reason, str) else None,
        _tokens(answer.get("usage")),
        _first_tokens(choice.get("logprobs")),
    )


def _first_tokens(logprobs: Any) -> tuple[tuple[str, float], ...]:
    """What ``logprobs`` says of the first token; nothing where it says it in another form."""
    try:
        first = logprobs["content"][0]
        entries = [first, *(first.get("top_logprobs") or ())]
        by_token = {str(entry["token"]): float(entry["logprob"]) for entry in entries}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return ()
    return tuple((token, value) for token, value in by_token.items() if value <= 0)


def _tokens(usage: Any) -> int | None:
    """The larger of the reported total and the sum of its parts; None if neither is a count.

    What cannot be a count (negative, a fraction, a text, 0 in all) is no report: it must not lift a
    budget.
    """
    if not isinstance(usage, dict):
        return None
    total, prompt, reply = (
        _count(usage.get(name)) for name in ("total_tokens", "prompt_tokens", "completion_tokens")
    )
    parts = None if prompt is None or reply is None else prompt + reply
    # No reply costs nothing.
    return max(total or 0, parts or 0) or None


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if is_count else None


def excerpt(content: bytes) -> str:
    """The beginning of a body in one line."""
    # Far more than is shown, so that a key that is echoed is whole when it is masked.
    return _line(content[:20_000].decode("utf-8", "replace")) or "(nothing)"


def _line(text: str) -> str:
    return " ".join(text.split())
