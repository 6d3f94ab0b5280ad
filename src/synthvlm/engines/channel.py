"""The worker's end of an engine whose workers run in other processes.

A worker sends messages of a kind and a value. Only ``ask`` is answered: with the number of a shard,
or None. A worker that holds no shard (``("ask", True)``) ends on None. A worker that still holds
one (``("ask", False)``) finishes it first, and then asks again.
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

#: Kind and value. Kinds: ``ask``; ``advance``, ``note`` and ``result`` (see ``Reporter`` and
#: ``ShardResult``); ``error`` (an exception that stops the run); ``crash`` (why this worker ends,
#: in one line).
Message = tuple[str, Any]

#: Seconds between reports of progress.
_INTERVAL_S = 0.5
#: Maximum length of the message of an unexpected exception, in characters.
_MAX_MESSAGE = 300


class Channel:
    """Serves a worker, and is the ``Reporter`` that the worker reports to."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        """Create a channel; ``send`` is called from any thread, one call at a time."""
        self._send_now = send
        self._lock = Lock()
        self._replies: SimpleQueue[int | None] = SimpleQueue()
        self._stopping = Event()
        self._advanced = 0
        self._sent = time.monotonic()

    def reply(self, shard: int | None) -> None:
        """Pass on the driver's answer to the last ``ask``."""
        self._replies.put(shard)

    def stop(self) -> None:
        """Stop the worker at its next report; it commits what it has generated."""
        self._stopping.set()
        self._replies.put(None)

    def advance(self, amount: int) -> None:
        """Count ``amount`` more units as done.

        Raises:
            KeyboardInterrupt: The worker has to stop. Workers handle this like Ctrl-C.
        """
        if self._stopping.is_set():
            raise KeyboardInterrupt
        self._advanced += amount
        if time.monotonic() - self._sent >= _INTERVAL_S:
            self._report()

    def note(self, line: str) -> None:
        """Show a line to the user."""
        self._send(("note", line))

    def serve(self, make_worker: MakeWorker) -> None:
        """Make a worker and give it shards until the driver has no more."""
        try:
            with closing(make_worker(self)) as worker:
                while (shard := self._ask(idle=True)) is not None:
                    for result in worker(self._available_shards(shard)):
                        self._report()
                        self._send(("result", result))
        except KeyboardInterrupt:
            return
        except SynthVLMError as error:
            self._send(("error", _picklable(error)))
        except BaseException as error:  # includes sys.exit and panics of Rust extensions
            line = first_line(error)[:_MAX_MESSAGE]
            self._send(("crash", f"{type(error).__name__}: {line}"))

    def _available_shards(self, first: int) -> Iterator[int]:
        """A shard, and more until the driver has none for now."""
        shard: int | None = first
        while shard is not None:
            yield shard
            shard = self._ask(idle=False)

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


def _picklable(error: SynthVLMError) -> SynthVLMError:
    """The error itself, or one with the same message if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return SynthVLMError(str(error))
    return error
