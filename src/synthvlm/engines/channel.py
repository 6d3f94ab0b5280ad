"""The worker's end of an engine that has its workers elsewhere.

A worker sends messages: a kind and a value. Of these ``ask`` alone is answered, with the number of
a shard or None. Who has nothing in hand (``ask`` True) and gets None is sent home; who still has
something in hand (False) finishes that, and asks again.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from queue import SimpleQueue
from threading import Event, Lock
from typing import Any

from synthvlm.engines.base import MakeWorker
from synthvlm.errors import SynthVLMError, first_line

__all__ = ["Channel", "Message"]

#: ``ask``, ``advance``, ``note``, ``result``, ``error`` (an exception that stops the run) or
#: ``crash`` (why this worker is gone, in a line); and what goes with it.
Message = tuple[str, Any]

_INTERVAL_S = 0.5
#: Characters of what an unexpected exception says.
_LINE = 300


class Channel:
    """Serves a worker; its Reporter at the same time."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        """Take a way to send messages, from any thread."""
        self._send_now = send
        self._lock = Lock()
        self._replies: SimpleQueue[int | None] = SimpleQueue()
        self._stopping = Event()
        self._advanced = 0
        self._sent = time.monotonic()

    def reply(self, shard: int | None) -> None:
        """The answer to the last ``ask`` has come."""
        self._replies.put(shard)

    def stop(self) -> None:
        """Stop the worker as soon as it reports; what it has drawn is committed."""
        self._stopping.set()
        self._replies.put(None)

    def advance(self, amount: int) -> None:
        """That many more units are done.

        Raises:
            KeyboardInterrupt: The worker is to stop.
        """
        if self._stopping.is_set():
            raise KeyboardInterrupt
        self._advanced += amount
        if time.monotonic() - self._sent >= _INTERVAL_S:
            self._report()

    def note(self, line: str) -> None:
        """Something that people should read."""
        self._send(("note", line))

    def serve(self, make_worker: MakeWorker) -> None:
        """Do shards until there are no more."""
        try:
            with closing(make_worker(self)) as worker:
                while (shard := self._ask(idle=True)) is not None:
                    for result in worker(self._turn(shard)):
                        self._report()
                        self._send(("result", result))
        except KeyboardInterrupt:
            return
        except SynthVLMError as error:
            self._send(("error", _portable(error)))
        except BaseException as error:  # sys.exit and panics of Rust among them
            self._send(("crash", f"{type(error).__name__}: {first_line(error)[:_LINE]}"))

    def _turn(self, shard: int) -> Iterator[int]:
        """Shards until the driver has none for now."""
        following: int | None = shard
        while following is not None:
            yield following
            following = self._ask(idle=False)

    def _ask(self, *, idle: bool) -> int | None:
        if self._stopping.is_set():
            return None
        self._report()
        self._send(("ask", idle))
        return self._replies.get()

    def _report(self) -> None:
        if self._advanced:
            amount, self._advanced = self._advanced, 0
            self._send(("advance", amount))
        self._sent = time.monotonic()

    def _send(self, message: Message) -> None:
        with self._lock:
            self._send_now(message)


def _portable(error: SynthVLMError) -> SynthVLMError:
    """The error, or where it does not survive the way, one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return SynthVLMError(str(error))
    return error
