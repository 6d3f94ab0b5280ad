"""Walk through an asynchronous generator from ordinary code."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

__all__ = ["iterate"]

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
            found = future.result()
            if not found:
                return
            yield found[0]
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
