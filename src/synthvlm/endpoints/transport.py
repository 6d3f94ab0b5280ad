"""HTTP to an endpoint: many requests at a time, tried again as long as that helps, within a budget.

The meaning of requests and responses is left to the clients that use it.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from synthvlm.endpoints.connection import Connection
from synthvlm.endpoints.responses import (
    ACCEPTED_ENCODING,
    Failure,
    Kind,
    Response,
    UnusableBodyError,
    read_body,
)
from synthvlm.errors import MissingExtraError, ModelError, SynthVLMError

if TYPE_CHECKING:
    import httpx2

__all__ = ["Budget", "BudgetExceededError", "EndpointError", "Job", "Known", "Transport", "iterate"]

_MAX_REASON_CHARS = 300
_MAX_CONNECT_S = 10.0

_Answer = TypeVar("_Answer")


class EndpointError(ModelError):
    """The endpoint cannot be used: not reached, key refused, unknown model, no credit."""


class BudgetExceededError(SynthVLMError):
    """The budget is used up; what was paid for was handed back."""


@dataclass(slots=True)
class Budget:
    """What may be spent, and what was.

    Attributes:
        max_requests: Requests to send at most, None for no limit.
        max_tokens: Tokens at which to stop, None for no limit.
        requests: Requests sent so far, repetitions included.
        tokens: Tokens reported so far.
    """

    max_requests: int | None
    max_tokens: int | None = None
    requests: int = 0
    tokens: int = 0

    def is_used_up(self) -> bool:
        """Whether no request may be sent any more."""
        return (self.max_requests is not None and self.requests >= self.max_requests) or (
            self.max_tokens is not None and self.tokens >= self.max_tokens
        )

    def __str__(self) -> str:
        limits = [f"{self.max_requests:,} requests"] if self.max_requests is not None else []
        spent = f"{self.requests:,} requests"
        if self.max_tokens is not None:
            limits.append(f"{self.max_tokens:,} tokens")
            spent += f" and {self.tokens:,} tokens"
        return f"the budget of {' or '.join(limits)} is used up, after {spent}"


class Known(NamedTuple, Generic[_Answer]):
    """An answer that needs no request, and the caller's name for it."""

    key: Hashable
    answer: _Answer


@dataclass(frozen=True, slots=True)
class Job(Generic[_Answer]):
    """A request to send.

    Attributes:
        key: The caller's name for it; comes back with the answer.
        body: The request, as JSON.
        take: Makes the answer of a response, as soon as it comes; or returns why there is none.
        give_up: Makes the answer of the reason why there is none.
    """

    key: Hashable
    body: bytes
    take: Callable[[Response], _Answer | Failure]
    give_up: Callable[[str], _Answer]


class Transport:
    """Sends requests to one URL; used for one ``answers`` at a time.

    Failures are of three kinds. What passes (connection lost or cut, no answer in time, and what
    the client calls passing) is tried again, with exponential backoff and jitter, or after as long
    as ``Retry-After`` asks, which then delays all requests; after ``max_tries`` it is a problem of
    that request. What is refused is a problem of that request at once. What is wrong with the
    endpoint itself (never reached, and what the client calls so) ends it all with
    ``EndpointError``.

    A request that is sent counts against the budget, whether it is answered or not.
    """

    def __init__(self, path: str, connection: Connection, budget: Budget) -> None:
        """Describe the endpoint; nothing is sent yet.

        Args:
            path: The route to which requests are posted, ``/chat/completions`` say.
            connection: Where the endpoint is, and how it is asked.
            budget: What may be spent; holds for the life of this object.

        Raises:
            RecipeError: The key cannot be sent.
            MissingExtraError: The HTTP library is not installed.
        """
        _require_http()
        self._url = connection.route(path)
        self._connection = connection
        self._key = connection.api_key()
        self._budget = budget
        self._not_before = 0.0
        self._failure: SynthVLMError | None = None

    async def answers(
        self, jobs: Iterable[Job[_Answer] | Known[_Answer]]
    ) -> AsyncIterator[tuple[Hashable, _Answer]]:
        """Give (key, answer) as answers come, in any order.

        Jobs are taken as they can be sent, so memory is bounded however many there are. Dropping
        the iterator cancels those in work.

        Raises:
            EndpointError: The endpoint cannot be used, after the answers of requests in work.
            BudgetExceededError: Likewise, if a request is left and the budget is used up.
        """
        self._failure = None
        self._stopped = asyncio.Event()
        source = iter(jobs)
        pending: set[asyncio.Task[tuple[Hashable, _Answer]]] = set()
        drained = False
        concurrency = self._connection.concurrency
        async with self._http() as http:
            try:
                while True:
                    while len(pending) < concurrency and not (drained or self._failure):
                        job = next(source, None)
                        if job is None:
                            drained = True
                        elif isinstance(job, Known):
                            yield job.key, job.answer
                        elif not self._budget_is_used_up():
                            pending.add(asyncio.create_task(self._ask(http, job)))
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

    def stop(self, reason: str) -> None:
        """Send nothing more: the endpoint cannot be used for this reason."""
        self._fail(EndpointError(f"{self._url}: {reason}"))

    async def _ask(self, http: httpx2.AsyncClient, job: Job[_Answer]) -> tuple[Hashable, _Answer]:
        """Ask until there is an answer or a problem."""
        reached = True
        reason = ""
        for tries in range(1, self._connection.max_tries + 1):
            await self._pause(self._not_before - time.monotonic())
            if self._failure is not None or self._budget_is_used_up():
                assert self._failure is not None
                raise self._failure
            self._budget.requests += 1
            response, reached = await self._try(http, job.body)
            outcome = response if isinstance(response, Failure) else job.take(response)
            if not isinstance(outcome, Failure):
                return job.key, outcome
            reason = f"{self._url}: {self._clean(outcome.reason)}"
            if outcome.kind is Kind.UNUSABLE:
                raise EndpointError(reason)
            if outcome.kind is Kind.REFUSED:
                return job.key, job.give_up(reason)
            if tries < self._connection.max_tries:
                await self._wait(tries, reason, outcome.retry_after_s)
        reason = f"{reason} (tried {self._connection.max_tries} times)"
        if not reached:
            raise EndpointError(f"{reason}; is the server running, and the address right?")
        return job.key, job.give_up(reason)

    async def _try(self, http: httpx2.AsyncClient, body: bytes) -> tuple[Response | Failure, bool]:
        """Send a request once; what came of it, and whether the server was reached."""
        import httpx2

        try:
            async with (
                asyncio.timeout(self._connection.timeout_s),
                http.stream("POST", self._url, content=body) as response,
            ):
                content = await read_body(response)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            reason = f"cannot be reached: {str(error) or 'no connection in time'}"
            return Failure(Kind.PASSING, reason), False
        except (TimeoutError, httpx2.TimeoutException):
            reason = f"no answer within {self._connection.timeout_s:g} s"
            return Failure(Kind.PASSING, reason), True
        except httpx2.RequestError as error:
            reason = f"the connection was cut: {str(error) or type(error).__name__}"
            return Failure(Kind.PASSING, reason), True
        except UnusableBodyError as error:
            return Failure(Kind.REFUSED, str(error)), True
        return Response(
            response.status_code, response.headers, self._key.masked_bytes(content)
        ), True

    def _budget_is_used_up(self) -> bool:
        """Whether no request may be sent any more; then that is the failure, too."""
        if not self._budget.is_used_up():
            return False
        self._fail(
            BudgetExceededError(
                f"{self._url}: {self._budget}; raise it and run again, what was kept is not asked "
                "for again"
            )
        )
        return True

    async def _wait(self, tries: int, reason: str, asked: float | None) -> None:
        """Wait before the next try, as long as the server asks or ever longer."""
        max_wait_s, backoff_s = self._connection.max_wait_s, self._connection.backoff_s
        if asked is None:
            backoff = min(max_wait_s, backoff_s * 2 ** (tries - 1))
            await self._pause(backoff * random.uniform(0.5, 1.0))
            return
        if asked > max_wait_s:
            raise EndpointError(
                f"{reason}: the server asks to wait {asked:.0f} s, the longest wait is "
                f"{max_wait_s:g} s; run again later"
            )
        self._not_before = max(self._not_before, time.monotonic() + asked)
        # Not all at the same moment.
        await self._pause(asked + random.uniform(0.0, 0.1 * backoff_s))

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

        count, timeout_s = self._connection.concurrency, self._connection.timeout_s
        return httpx2.AsyncClient(
            headers={
                "Content-Type": "application/json",
                "Accept-Encoding": ACCEPTED_ENCODING,
                **self._key.headers(),
            },
            # Shorter than the whole, to tell a dead address from a slow model.
            timeout=httpx2.Timeout(timeout_s, connect=min(_MAX_CONNECT_S, timeout_s / 2)),
            limits=httpx2.Limits(max_connections=count, max_keepalive_connections=count),
        )


def _require_http() -> None:
    try:
        import httpx2  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "endpoints need the package httpx2: pip install 'synthvlm[endpoint]'"
        ) from error


_T = TypeVar("_T")


def iterate(make: Callable[[], AsyncIterator[_T]]) -> Iterator[_T]:
    """Give what an asynchronous generator gives.

    Its event loop runs in a thread of its own until the last item, so what it started goes on
    while the caller is busy, and it works where an event loop runs already (in notebooks).
    Dropping the iterator cancels all that is in work.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=_run, args=(loop,), name="synthvlm-endpoint", daemon=True)
    thread.start()
    try:
        items = make()
        while True:
            future = asyncio.run_coroutine_threadsafe(_next(items), loop)
            item = future.result()
            if not item:
                return
            yield item[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _next(items: AsyncIterator[_T]) -> tuple[_T, ...]:
    """The next item, or an empty tuple after the last."""
    try:
        return (await anext(items),)
    except StopAsyncIteration:
        return ()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        # Closes the generator, and with it the connections.
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
