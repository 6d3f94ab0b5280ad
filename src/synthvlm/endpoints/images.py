"""A client of OpenAI-compatible image endpoints: vLLM-Omni, SGLang, LocalAI, hosted models.

It shares with the chat client how requests are sent, tried again and paid for. Pictures are not
kept in a store of replies: the run folder keeps the winners, and the losers are not wanted again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from synthvlm.endpoints.connection import Connection
from synthvlm.endpoints.responses import (
    Failure,
    Kind,
    Response,
    excerpt,
    parsed,
    read_failure,
    read_server_error,
)
from synthvlm.endpoints.transport import (
    Budget,
    BudgetExceededError,
    EndpointError,
    Job,
    Transport,
    iterate,
)

__all__ = [
    "BudgetExceededError",
    "EndpointError",
    "ImageClient",
    "ImageReply",
    "read_image",
]

#: Codes (``error.code``) of a prompt or picture that the server's content policy refuses.
_POLICY = frozenset({"content_policy_violation", "moderation_blocked", "content_filter"})


@dataclass(frozen=True, slots=True)
class ImageReply:
    """What became of a request.

    Attributes:
        data: The picture as the server encoded it (PNG, JPEG or WebP), unchecked; b"" if there is
            a problem.
        problem: Why there is none, or None.
    """

    data: bytes
    problem: str | None = None


class ImageClient:
    """Has one model at one endpoint generate images, by one call of a method at a time.

    Failures are handled as by ``EndpointClient``, with these differences. What the content policy
    refuses, and an answer without a picture, are problems of that request. What is the same in all
    requests ends it all with ``EndpointError``: HTTP 403, an error that names another field than
    the prompt, and a link in place of the picture; links are not followed.

    The budget holds for the life of the client; with one image a request (``n`` of 1) it is one of
    images, too. A request that is sent counts, whether it is answered or not.
    """

    def __init__(self, connection: Connection, model: str) -> None:
        """Describe the endpoint; nothing is sent yet.

        Args:
            connection: Where the endpoint is, and how it is asked.
            model: Name of the model there.

        Raises:
            RecipeError: The key cannot be sent.
            MissingExtraError: The HTTP library is not installed.
        """
        self._budget = Budget(connection.max_requests)
        self._transport = Transport("/images/generations", connection, self._budget)
        self._model = model

    @property
    def requests_sent(self) -> int:
        """Requests sent so far, repetitions included."""
        return self._budget.requests

    def generate_all(
        self, requests: Iterable[tuple[Hashable, str, Mapping[str, Any]]]
    ) -> Iterator[tuple[Hashable, ImageReply]]:
        """Generate any number of images; give (key, reply) as they come, in any order.

        Requests are taken from the iterable as they can be sent, in a thread of its own: those in
        work go on while the caller is busy. Dropping the iterator cancels them.

        Args:
            requests: For each, the caller's key, which comes back with the reply; the prompt; and
                all further fields of the request: ``size``, ``seed``, ``response_format`` ...

        Raises:
            EndpointError: The endpoint cannot be used, after the replies of requests in work.
            BudgetExceededError: Likewise, if a request is left and the budget is used up.
        """
        return iterate(lambda: self.images(requests))

    async def images(
        self, requests: Iterable[tuple[Hashable, str, Mapping[str, Any]]]
    ) -> AsyncIterator[tuple[Hashable, ImageReply]]:
        """``generate_all`` for callers with an event loop."""
        async for answer in self._transport.answers(self._job(*item) for item in requests):
            yield answer

    def _job(self, key: Hashable, prompt: str, fields: Mapping[str, Any]) -> Job[ImageReply]:
        # ASCII escapes: unlike UTF-8 they have a form for lone surrogates.
        body = json.dumps({"model": self._model, "prompt": prompt, **fields}).encode("ascii")
        return Job(key, body, partial(_take, frozenset({"model", *fields})), _no_image)


def _take(fields: frozenset[str], response: Response) -> ImageReply | Failure:
    image = read_image(response, fields)
    return image if isinstance(image, Failure) else ImageReply(image)


def _no_image(problem: str) -> ImageReply:
    return ImageReply(b"", problem)


def read_image(response: Response, fields: frozenset[str]) -> bytes | Failure:
    """Read the response to a request for one image; never raises, whatever it holds.

    Args:
        response: The response.
        fields: The fields that all requests have in common, the prompt left out.
    """
    if response.status != 200:
        return _failure(response, fields)
    answer = parsed(response.content)
    images = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(images, list):
        # Most likely a proxy's page in between.
        return Failure(Kind.PASSING, f"the answer is no image: {excerpt(response.content)}")
    image = images[0] if images and isinstance(images[0], dict) else {}
    encoded = image.get("b64_json")
    if not encoded and image.get("url"):
        reason = "the server gives a link and not the picture; set response_format to b64_json"
        return Failure(Kind.UNUSABLE, reason)
    if not encoded:
        return Failure(Kind.REFUSED, "the answer holds no picture")
    try:
        return base64.b64decode(encoded, validate=True)
    except (ValueError, TypeError) as error:
        return Failure(Kind.REFUSED, f"the picture is no base64: {error}")


def _failure(response: Response, fields: frozenset[str]) -> Failure:
    error = read_server_error(response.content)
    if error.code in _POLICY:
        reason = f"HTTP {response.status}: refused by the content policy ({error.code})"
        return Failure(Kind.REFUSED, f"{reason}: {error.message}")
    failure = read_failure(response, error)
    if failure.kind is Kind.REFUSED and (response.status == 403 or error.field in fields):
        return Failure(Kind.UNUSABLE, failure.reason)
    return failure
