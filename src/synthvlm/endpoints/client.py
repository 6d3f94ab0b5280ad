"""A client of OpenAI-compatible chat endpoints: vLLM, llama.cpp's server, hosted models.

Concurrent, patient with servers that are busy or broken, and careful with money: what was answered
once is kept and never paid for again, and a budget is a hard stop.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from synthvlm.endpoints.access import check_base_url, key_from_environment
from synthvlm.endpoints.replies import ReplyStore, reply_key
from synthvlm.endpoints.responses import Completion, Failure, Kind, read_response
from synthvlm.endpoints.threads import iterate
from synthvlm.errors import MissingExtraError, ModelError, SynthVLMError

if TYPE_CHECKING:
    import httpx2

__all__ = ["BudgetExceededError", "EndpointClient", "EndpointError", "Reply", "Request"]

_MAX_REASON_CHARS = 300
_MAX_CONNECT_S = 10.0


class EndpointError(ModelError):
    """The endpoint cannot be used: not reached, key refused, unknown model, no credit."""


class BudgetExceededError(SynthVLMError):
    """The budget is used up; what was paid for was handed back, and is in the store."""


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
        text: What the model said, "" where it said nothing or there is a problem.
        finish_reason: Why it stopped, as the server tells: ``stop``, ``length``, ... or None.
        stored: Whether it came from the store, at no cost.
        problem: Why there is no reply, or None.
    """

    text: str
    finish_reason: str | None = None
    stored: bool = False
    problem: str | None = None


class EndpointClient:
    """Asks one model at one endpoint; used for one ``ask_all`` or ``answers`` at a time.

    Failures are of three kinds. What passes (connection lost or cut, no answer in time, 429, 5xx,
    a body that is no chat completion) is tried again, with exponential backoff and jitter, or
    after as long as ``Retry-After`` says, which then holds all requests; after ``max_tries`` it is
    a problem of that request. Any other 4xx is a problem of that request at once. What is wrong
    with the endpoint itself (never reached, 401, 402, 404, 405, a redirect, no credit) ends it all
    with ``EndpointError``.

    The budget holds for the life of the client. A request that is sent counts, whether it is
    answered or not; tokens count as the server reports them, so the requests in work when
    ``max_total_tokens`` is reached go beyond it. A reply from the store costs nothing.

    Attributes:
        requests_sent: Requests sent so far, repetitions included.
        tokens_used: Tokens reported so far.
        replies_stored: Replies that came from the store.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 8,
        timeout_s: float = 120.0,
        max_tries: int = 6,
        backoff_s: float = 1.0,
        max_wait_s: float = 300.0,
        max_requests: int | None = None,
        max_total_tokens: int | None = None,
        store: ReplyStore | None = None,
    ) -> None:
        """Describe the endpoint; nothing is sent yet.

        Args:
            base_url: Its address up to ``/chat/completions``, ``http://localhost:8000/v1`` say.
            model: Name of the model there.
            api_key_env: Environment variable that holds the key. Where it is not set, none is
                sent, which local servers accept.
            concurrency: Requests in work at one time, at least 1.
            timeout_s: Seconds for one try, from connecting to the last byte.
            max_tries: Tries of a request, at least 1.
            backoff_s: Seconds (more or less) before the second try; doubles with each further one.
            max_wait_s: Longest wait. A server that asks for a longer one is left alone
                (``EndpointError``); own backoff grows no further.
            max_requests: Requests to send at most, None for no limit.
            max_total_tokens: Stop asking at that many tokens, None for no limit. Needs a server
                that reports ``usage``.
            store: Where replies are kept and looked up first.

        Raises:
            RecipeError: The address is none, holds a password, or the key cannot be sent.
            MissingExtraError: The HTTP library is not installed.
            ValueError: A number is out of its range.
        """
        if concurrency < 1 or max_tries < 1 or timeout_s <= 0 or backoff_s < 0:
            raise ValueError("concurrency and max_tries must be at least 1, times above 0")
        _require_http()
        self._url = check_base_url(base_url) + "/chat/completions"
        self._key = key_from_environment(api_key_env)
        self._model = model
        self._concurrency = concurrency
        self._timeout_s = timeout_s
        self._max_tries = max_tries
        self._backoff_s = backoff_s
        self._max_wait_s = max_wait_s
        self._max_requests = max_requests
        self._max_total_tokens = max_total_tokens
        self._store = store
        self._not_before = 0.0
        self._failure: SynthVLMError | None = None
        self.requests_sent = 0
        self.tokens_used = 0
        self.replies_stored = 0

    def ask_all(
        self, requests: Iterable[tuple[Hashable, Sequence[Mapping[str, Any]], Mapping[str, Any]]]
    ) -> Iterator[tuple[Hashable, Reply]]:
        """Ask any number of requests; give (key, reply) as replies come, in any order.

        Requests are drawn as they can be sent, so memory is bounded however many there are. They
        are drawn, and HTTP is done, in a thread of its own: requests in work go on while the caller
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
        self._failure = None
        self._stopped = asyncio.Event()
        source = iter(requests)
        pending: set[asyncio.Task[tuple[Hashable, Reply]]] = set()
        drained = False
        async with self._http() as http:
            try:
                while True:
                    while len(pending) < self._concurrency and not (drained or self._failure):
                        item = next(source, None)
                        if item is None:
                            drained = True
                            break
                        request = Request(*item)
                        key = reply_key(self._model, request.messages, request.sampling)
                        if (stored := self._stored(key)) is not None:
                            yield request.key, stored
                        elif not self._budget_is_used_up():
                            pending.add(asyncio.create_task(self._ask(http, request, key)))
                    if not pending:
                        break
                    done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        try:
                            answer = task.result()
                        except (EndpointError, BudgetExceededError) as error:
                            self._fail(error)
                        else:
                            yield answer
            finally:
                for task in pending:
                    task.cancel()
                await asyncio.gather(*pending, return_exceptions=True)
        if self._failure is not None:
            raise self._failure

    async def _ask(
        self, http: httpx2.AsyncClient, request: Request, key: bytes
    ) -> tuple[Hashable, Reply]:
        """Ask until there is a reply or a problem."""
        fields = {"model": self._model, "messages": list(request.messages), **request.sampling}
        # ASCII escapes: unlike UTF-8 they have a form for lone surrogates.
        body = json.dumps(fields).encode("ascii")
        reached = True
        reason = ""
        for tries in range(1, self._max_tries + 1):
            await self._pause(self._not_before - time.monotonic())
            if self._failure is not None or self._budget_is_used_up():
                assert self._failure is not None
                raise self._failure
            self.requests_sent += 1
            outcome, reached = await self._try(http, body)
            if isinstance(outcome, Completion):
                return request.key, self._paid(key, outcome)
            reason = self._clean(outcome.reason)
            if outcome.kind is Kind.UNUSABLE:
                raise EndpointError(f"{self._url}: {reason}")
            if outcome.kind is Kind.REFUSED:
                return request.key, Reply("", problem=f"{self._url}: {reason}")
            if tries < self._max_tries:
                await self._wait(tries, outcome)
        reason = f"{self._url}: {reason} (tried {self._max_tries} times)"
        if not reached:
            raise EndpointError(f"{reason}; is the server running, and the address right?")
        return request.key, Reply("", problem=reason)

    async def _try(
        self, http: httpx2.AsyncClient, body: bytes
    ) -> tuple[Completion | Failure, bool]:
        """Send a request once; what came of it, and whether the server was reached."""
        import httpx2

        try:
            async with asyncio.timeout(self._timeout_s):
                response = await http.post(self._url, content=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            reason = f"cannot be reached: {str(error) or 'no connection in time'}"
            return Failure(Kind.PASSING, reason), False
        except (TimeoutError, httpx2.TimeoutException):
            reason = f"no answer within {self._timeout_s:g} s"
            return Failure(Kind.PASSING, reason), True
        except httpx2.RequestError as error:
            reason = f"the connection was cut: {str(error) or type(error).__name__}"
            return Failure(Kind.PASSING, reason), True
        return read_response(response.status_code, response.headers, response.content), True

    def _paid(self, key: bytes, completion: Completion) -> Reply:
        """Count and store a reply."""
        if self._store is not None:
            tokens = completion.tokens or 0
            self._store.put(key, completion.text, completion.finish_reason, tokens)
        if completion.tokens is not None:
            self.tokens_used += completion.tokens
        elif self._max_total_tokens is not None:
            self._fail(
                EndpointError(
                    f"{self._url}: the server reports no token usage, so the token budget cannot "
                    "be held; limit the number of requests instead"
                )
            )
        return Reply(completion.text, completion.finish_reason)

    def _stored(self, key: bytes) -> Reply | None:
        found = self._store.get(key) if self._store is not None else None
        if found is None:
            return None
        self.replies_stored += 1
        return Reply(found.text, found.finish_reason, stored=True)

    def _budget_is_used_up(self) -> bool:
        """Whether no request may be sent any more; then that is the failure, too."""
        requests, tokens = self._max_requests, self._max_total_tokens
        if (requests is None or self.requests_sent < requests) and (
            tokens is None or self.tokens_used < tokens
        ):
            return False
        limit = f"{requests:,} requests" if requests is not None else ""
        if tokens is not None:
            limit += f"{' or ' if limit else ''}{tokens:,} tokens"
        self._fail(
            BudgetExceededError(
                f"{self._url}: the budget of {limit} is used up, after {self.requests_sent:,} "
                f"requests and {self.tokens_used:,} tokens; raise it and run again, what was "
                "answered and stored is not asked again"
            )
        )
        return True

    async def _wait(self, tries: int, failure: Failure) -> None:
        """Wait before the next try, as long as the server says or ever longer."""
        asked = failure.retry_after_s
        if asked is None:
            backoff = min(self._max_wait_s, self._backoff_s * 2 ** (tries - 1))
            await self._pause(backoff * random.uniform(0.5, 1.0))
            return
        if asked > self._max_wait_s:
            raise EndpointError(
                f"{self._url}: {self._clean(failure.reason)}: the server asks to wait {asked:.0f} "
                f"s, the longest wait is {self._max_wait_s:g} s; run again later"
            )
        self._not_before = max(self._not_before, time.monotonic() + asked)
        # Not all at the same moment.
        await self._pause(asked + random.uniform(0.0, 0.1 * self._backoff_s))

    async def _pause(self, seconds: float) -> None:
        """Sleep, but no longer than until the first failure that ends it all."""
        if seconds > 0:
            try:
                await asyncio.wait_for(self._stopped.wait(), seconds)
            except TimeoutError:
                return

    def _fail(self, error: SynthVLMError) -> None:
        self._failure = self._failure or error
        self._stopped.set()

    def _clean(self, reason: str) -> str:
        """A reason in which the key, which some servers echo, does not stand; of bounded length."""
        reason = self._key.masked(reason)
        if len(reason) > _MAX_REASON_CHARS:
            reason = reason[:_MAX_REASON_CHARS] + " ..."
        return reason

    def _http(self) -> httpx2.AsyncClient:
        import httpx2

        return httpx2.AsyncClient(
            headers={"Content-Type": "application/json", **self._key.headers()},
            # Shorter than the whole, so that a dead address is told from a slow model.
            timeout=httpx2.Timeout(
                self._timeout_s, connect=min(_MAX_CONNECT_S, self._timeout_s / 2)
            ),
            limits=httpx2.Limits(
                max_connections=self._concurrency, max_keepalive_connections=self._concurrency
            ),
        )


def _require_http() -> None:
    try:
        import httpx2  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "endpoints need the package httpx2: pip install 'synthvlm[endpoint]'"
        ) from error
