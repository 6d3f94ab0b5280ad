"""What an HTTP response to a chat request means: a reply, or which kind of failure."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

__all__ = ["Completion", "Failure", "Kind", "read_response", "retry_after_seconds"]

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
class Completion:
    """A chat completion.

    Attributes:
        text: What the model said, "" where it said nothing.
        finish_reason: Why it stopped: ``stop``, ``length``, ``content_filter``, ... or None.
        tokens: All tokens of request and reply by the server's ``usage``, None if it tells none.
    """

    text: str
    finish_reason: str | None
    tokens: int | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that failed.

    Attributes:
        kind: What to do about it.
        reason: What happened, in one line; what the server said is part of it.
        retry_after_s: Seconds that the server asks to wait, or None.
    """

    kind: Kind
    reason: str
    retry_after_s: float | None = None


def read_response(status: int, headers: Mapping[str, str], content: bytes) -> Completion | Failure:
    """Read a response; never raises, whatever it holds."""
    if status == 200:
        completion = _completion(content)
        # A body that is no completion was most likely cut, or is a proxy's page in between.
        reason = f"the answer is no chat completion: {_excerpt(content)}"
        return completion or Failure(Kind.PASSING, reason)
    code, said = _error(content)
    reason = f"HTTP {status}: {said}"
    if status in _ABOUT_THE_ENDPOINT or code == _NO_CREDIT or status < 400:
        return Failure(Kind.UNUSABLE, reason)
    if status in _PASSING or status >= 500:
        return Failure(Kind.PASSING, reason, retry_after_seconds(headers.get("Retry-After")))
    return Failure(Kind.REFUSED, reason)


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
    try:
        answer = json.loads(content)
        choice = answer["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    if not isinstance(text, str | None):
        return None
    reason = choice.get("finish_reason")
    return Completion(
        text or "", reason if isinstance(reason, str) else None, _tokens(answer.get("usage"))
    )


def _tokens(usage: Any) -> int | None:
    if not isinstance(usage, dict):
        return None
    total = usage.get("total_tokens")
    if isinstance(total, int):
        return total
    prompt, reply = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return prompt + reply if isinstance(prompt, int) and isinstance(reply, int) else None


def _error(content: bytes) -> tuple[str | None, str]:
    """The code and the message of an error body in any of the usual forms."""
    try:
        body = json.loads(content)
    except ValueError:
        return None, _excerpt(content)
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        code = error.get("code")
        for name in ("message", "detail", "error"):
            if error.get(name):
                return str(code), _line(str(error[name]))
    return None, _line(error) if isinstance(error, str) else _excerpt(content)


def _excerpt(content: bytes) -> str:
    # Far more than is shown, so that a key that is echoed is whole when it is masked.
    return _line(content[:20_000].decode("utf-8", "replace")) or "(nothing)"


def _line(text: str) -> str:
    return " ".join(text.split())
