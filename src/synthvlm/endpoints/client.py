"""A client of OpenAI-compatible chat endpoints: vLLM, llama.cpp's server, hosted models.

Concurrent, patient with servers that are busy or broken, and careful with money: what was answered
once is kept and never paid for again, and a budget is a hard stop.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from synthvlm.endpoints.connection import Connection
from synthvlm.endpoints.replies import ReplyStore, reply_key
from synthvlm.endpoints.responses import Completion, Failure, Response, read_completion
from synthvlm.endpoints.transport import (
    Budget,
    BudgetExceededError,
    EndpointError,
    Job,
    Known,
    Transport,
    iterate,
)

__all__ = ["BudgetExceededError", "EndpointClient", "EndpointError", "Reply", "Request"]


class Request(NamedTuple):
    """A question to the model; a plain tuple does as well.

    Attributes:
        key: The caller's name for it; comes back with the reply.
        messages: The conversation, in OpenAI's form.
        sampling: All further fields of the request: ``temperature``, ``max_tokens``, ``seed`` ...
    """

    key: Hashable
    messages: Sequence[Mapping[str, Any]]
    sampling: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a request.

    Attributes:
        text: The model's reply, "" where it is empty or there is a problem.
        finish_reason: Why it stopped, by the server: ``stop``, ``length``, ... or None.
        problem: Why there is no reply, or None.
        first_tokens: The likeliest first tokens with the logarithms of their probabilities, where
            the request asks for ``logprobs``. A store does not keep them.
    """

    text: str
    finish_reason: str | None = None
    problem: str | None = None
    first_tokens: tuple[tuple[str, float], ...] = ()


class EndpointClient:
    """Asks one model at one endpoint; used for one ``ask_all`` or ``answers`` at a time.

    Failures are of three kinds. What passes (connection lost or cut, no answer in time, 429, 5xx,
    a body that is no chat completion) is tried again, with exponential backoff and jitter, or
    after the time in ``Retry-After``, which then delays all requests; after ``max_tries`` it is
    a problem of that request. Any other 4xx is a problem of that request at once. What is wrong
    with the endpoint itself (never reached, 401, 402, 404, 405, a redirect, no credit) ends it all
    with ``EndpointError``.

    The budget holds for the life of the client. A request that is sent counts, whether it is
    answered or not; tokens count as the server reports them, so the requests in work when
    ``max_tokens`` is reached go beyond it. A reply from the store costs nothing.
    """

    def __init__(
        self,
        connection: Connection,
        model: str,
        *,
        max_tokens: int | None = None,
        store: ReplyStore | None = None,
    ) -> None:
        """Describe the endpoint; nothing is sent yet.

        Args:
            connection: Where the endpoint is, and how it is asked.
            model: Name of the model there.
            max_tokens: Stop asking at that many tokens, of all requests together; None for no
                limit. Needs a server that reports ``usage``.
            store: Where replies are kept and looked up first.

        Raises:
            RecipeError: The key cannot be sent.
            MissingExtraError: The HTTP library is not installed.
        """
        self._budget = Budget(connection.max_requests, max_tokens)
        self._transport = Transport("/chat/completions", connection, self._budget)
        self._model = model
        self._store = store

    @property
    def requests_sent(self) -> int:
        """Requests sent so far, repetitions included."""
        return self._budget.requests

    @property
    def tokens_used(self) -> int:
        """Tokens reported so far."""
        return self._budget.tokens

    def ask_all(
        self, requests: Iterable[tuple[Hashable, Sequence[Mapping[str, Any]], Mapping[str, Any]]]
    ) -> Iterator[tuple[Hashable, Reply]]:
        """Ask any number of requests; give (key, reply) as replies come, in any order.

        Requests are taken as they can be sent, so memory is bounded however many there are. They
        are taken, and HTTP is done, in a thread of its own: requests in work go on while the caller
        is busy with a reply. Dropping the iterator cancels them.

        Raises:
            EndpointError: The endpoint cannot be used, after the replies of requests in work.
            BudgetExceededError: Likewise, if a request is left and the budget is used up.
            RunFolderError: A reply cannot be stored.
        """
        return iterate(lambda: self.answers(requests))

    async def answers(
        self, requests: Iterable[tuple[Hashable, Sequence[Mapping[str, Any]], Mapping[str, Any]]]
    ) -> AsyncIterator[tuple[Hashable, Reply]]:
        """``ask_all`` for callers with an event loop."""
        async for answer in self._transport.answers(self._jobs(requests)):
            yield answer

    def _jobs(
        self, requests: Iterable[tuple[Hashable, Sequence[Mapping[str, Any]], Mapping[str, Any]]]
    ) -> Iterator[Job[Reply] | Known[Reply]]:
        for item in requests:
            request = Request(*item)
            key = reply_key(self._model, request.messages, request.sampling)
            if (stored := self._stored(key)) is not None:
                yield Known(request.key, stored)
                continue
            fields = {"model": self._model, "messages": list(request.messages), **request.sampling}
            # ASCII escapes: unlike UTF-8 they have a form for lone surrogates.
            body = json.dumps(fields).encode("ascii")
            yield Job(request.key, body, partial(self._take, key), _no_reply)

    def _take(self, key: bytes, response: Response) -> Reply | Failure:
        """Read, count and store a reply."""
        completion = read_completion(response)
        return completion if isinstance(completion, Failure) else self._paid(key, completion)

    def _paid(self, key: bytes, completion: Completion) -> Reply:
        if self._store is not None:
            tokens = completion.tokens or 0
            self._store.put(key, completion.text, completion.finish_reason, tokens)
        if completion.tokens is not None:
            self._budget.tokens += completion.tokens
        elif self._budget.max_tokens is not None:
            self._transport.stop(
                "the server reports no usable token usage, so the budget of tokens cannot be held; "
                "limit the number of requests instead"
            )
        return Reply(
            completion.text, completion.finish_reason, first_tokens=completion.first_tokens
        )

    def _stored(self, key: bytes) -> Reply | None:
        reply = self._store.get(key) if self._store is not None else None
        return None if reply is None else Reply(reply.text, reply.finish_reason)


def _no_reply(problem: str) -> Reply:
    return Reply("", problem=problem)
