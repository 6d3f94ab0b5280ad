"""The driver's end of an engine whose workers run in other processes.

``WorkerPool`` handles their messages. It uses two parts that know nothing of processes:
``ShardQueue`` decides which worker does which shard, ``HangDetector`` finds workers that hang.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from synthvlm.engines.base import LostShard, Reporter, Update, WorkerChange
from synthvlm.engines.channel import Message
from synthvlm.errors import EngineError

__all__ = ["MAX_ATTEMPTS", "HangDetector", "RemoteWorker", "ShardQueue", "WorkerPool"]

#: A shard whose workers died this many times is set aside.
MAX_ATTEMPTS = 3
#: This many deaths in a row, without a finished shard in between, stop the run.
_MAX_DEATHS_IN_A_ROW = 10


class ShardQueue:
    """The shards of a run: waiting, assigned to a worker, finished, or set aside.

    A worker may hold two shards: it commits one while it generates the other. When it dies, either
    of them may be the cause, so both are retried at the end, each alone on its worker.
    """

    def __init__(self, shards: Sequence[int]) -> None:
        """Queue all shards, in the given order."""
        self._untried = deque(shards)
        self._retries: deque[int] = deque()
        self._deaths: Counter[int] = Counter()
        self._assigned: dict[str, list[int]] = {}
        self._deaths_in_a_row = 0

    @property
    def is_done(self) -> bool:
        """Whether every shard is finished or set aside."""
        return not self.waiting and not any(self._assigned.values())

    @property
    def waiting(self) -> int:
        """Number of shards that no worker holds."""
        return len(self._untried) + len(self._retries)

    def take(self, worker: str) -> int | None:
        """Assign a shard to a worker; None if it should first finish what it holds."""
        assigned = self._assigned.setdefault(worker, [])
        if any(self._deaths[shard] for shard in assigned):
            return None  # a retried shard runs alone, so that a further death has one cause
        if self._untried:
            shard = self._untried.popleft()
        elif self._retries and not assigned:
            shard = self._retries.popleft()
        else:
            return None
        assigned.append(shard)
        return shard

    def finish(self, worker: str, shard: int) -> None:
        """Record that a worker has committed a shard."""
        self._assigned[worker].remove(shard)
        self._deaths_in_a_row = 0

    def worker_died(
        self, worker: str, problem: str, *, workers: int = 1, blame: bool = True
    ) -> list[LostShard]:
        """Queue the shards of a dead worker again, or set them aside.

        Args:
            worker: Its name.
            problem: Why it died, as far as that is known.
            workers: How many workers there should be.
            blame: False if its shards cannot be the cause, because its machine is gone.

        Returns:
            The shards that are now set aside.

        Raises:
            EngineError: Too many workers died in a row without finishing a shard.
        """
        assigned = self._assigned.pop(worker, [])
        if not blame:
            self._untried.extendleft(reversed(assigned))
            return []
        lost = []
        for shard in assigned:
            self._deaths[shard] += 1
            if self._deaths[shard] < MAX_ATTEMPTS:
                self._retries.append(shard)
            else:
                lost.append(LostShard(shard, self._deaths[shard], problem))
        self._deaths_in_a_row += 1
        # A large pool may lose many workers to the same few bad shards.
        if self._deaths_in_a_row >= max(_MAX_DEATHS_IN_A_ROW, MAX_ATTEMPTS * workers):
            raise EngineError(
                f"{self._deaths_in_a_row} workers died in a row without finishing a shard "
                f"(last cause: {problem}): fix the cause and run again; finished shards are kept"
            )
        return lost


#: A worker may hang if it is silent for this many times the longest wait that has ended so far,
#: and for at least this many seconds.
_HANG_FACTOR = 10
_MIN_HANG_S = 60.0
#: The driver looks every few seconds. If it did not for this long, it was itself suspended, or
#: waited for a store.
_AWAY_S = 30.0


class HangDetector:
    """Finds workers for which the wait is far longer than any that has ended so far.

    How long a batch or the loading of models takes is not known in advance. So there is no fixed
    timeout: the longest wait after which some worker reported again is the yardstick. Time in
    which the driver did not look does not count: messages may have been waiting.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Use a clock that counts seconds and never goes back."""
        self._clock = clock
        self._looked, self._away = clock(), 0.0
        self._last_message: dict[str, float] = {}
        self._reported: set[str] = set()
        self._longest_wait: float | None = None

    def watch(self, worker: str) -> None:
        """Watch a worker that holds a shard, from now on if it held none before."""
        self._last_message.setdefault(worker, self._now())

    def message_from(self, worker: str) -> bool:
        """Record a message; returns whether the worker had been reported as silent."""
        now = self._now()
        if worker in self._last_message:
            wait = now - self._last_message[worker]
            self._longest_wait = max(self._longest_wait or 0.0, wait)
            self._last_message[worker] = now
        was_reported = worker in self._reported
        self._reported.discard(worker)
        return was_reported

    def forget(self, worker: str) -> None:
        """Stop watching a worker that holds no shard, or is gone."""
        self._last_message.pop(worker, None)
        self._reported.discard(worker)

    def newly_silent(self) -> dict[str, str]:
        """Workers that may hang and were not reported yet, each with the reason in words."""
        now = self._now()
        if self._longest_wait is None:
            return {}
        limit = max(_MIN_HANG_S, _HANG_FACTOR * self._longest_wait)
        silent = {
            worker: f"no message for {(now - last) / 60:.0f} min, the longest wait so far was "
            f"{self._longest_wait:.0f} s"
            for worker, last in self._last_message.items()
            if now - last > limit and worker not in self._reported
        }
        self._reported |= silent.keys()
        return silent

    def _now(self) -> float:
        """The clock's time, minus the time in which the driver did not look."""
        before, self._looked = self._looked, self._clock()
        if self._looked - before > _AWAY_S:
            self._away += self._looked - before
        return self._looked - self._away


class RemoteWorker(Protocol):
    """A worker in another process, as the driver sees it."""

    name: str

    def reply(self, shard: int | None) -> None:
        """Answer its ``ask``."""


class WorkerPool:
    """Answers workers from the queue of shards, and reports to the stage what happens."""

    def __init__(self, shards: Sequence[int], progress: Reporter) -> None:
        """Queue all shards."""
        self.queue = ShardQueue(shards)
        self._progress = progress
        self._idle: dict[str, RemoteWorker] = {}
        self._hangs = HangDetector()
        # Units done of each shard that a worker holds; the shard it works on is the last one.
        self._advanced: dict[str, dict[int, int]] = {}

    @property
    def is_done(self) -> bool:
        """Whether every shard is finished or set aside."""
        return self.queue.is_done

    def receive(self, worker: RemoteWorker, message: Message) -> Iterator[Update]:
        """Handle a message.

        Raises:
            SynthVLMError: The worker met an error that stops the run.
        """
        kind, value = message
        if self._hangs.message_from(worker.name):
            self._progress.note(f"worker {worker.name} reports again")
            yield WorkerChange(worker.name, "heard")
        if kind == "advance":
            advanced = self._advanced[worker.name]
            advanced[next(reversed(advanced))] += value
            self._progress.advance(value)
        elif kind == "note":
            self._progress.note(value)
        elif kind == "ask":
            is_idle = value
            shard = self.queue.take(worker.name)
            if shard is None and is_idle:
                # It gets no answer for now: a shard of a worker that dies may still come back.
                self._idle[worker.name] = worker
                self._hangs.forget(worker.name)
            else:
                self._assign(worker, shard)
        elif kind == "result":
            self.queue.finish(worker.name, value.shard)
            self._advanced[worker.name].pop(value.shard)
            yield replace(value, worker=worker.name)
        else:
            assert kind == "error", kind
            raise value

    def report_silent(self) -> Iterator[Update]:
        """Report workers that may hang; call it regularly, once all messages are handled."""
        for worker, problem in self._hangs.newly_silent().items():
            shards = " and ".join(f"shard {shard}" for shard in self._advanced.get(worker, {}))
            problem += f"; it works on {shards or 'no shard'}"
            self._progress.note(f"warning: worker {worker} may hang: {problem}")
            yield WorkerChange(worker, "silent", problem)

    def worker_died(
        self, worker: RemoteWorker, problem: str, *, workers: int, blame: bool = True
    ) -> Iterator[Update]:
        """Give the shards of a dead worker to others, or set them aside; see ``ShardQueue``.

        Raises:
            EngineError: Too many workers died in a row without finishing a shard.
        """
        self._idle.pop(worker.name, None)
        self._hangs.forget(worker.name)
        # Unfinished shards are done again from the start, so their progress is taken back.
        self._progress.advance(-sum(self._advanced.pop(worker.name, {}).values()))
        yield WorkerChange(worker.name, "died", problem)
        yield from self.queue.worker_died(worker.name, problem, workers=workers, blame=blame)
        for idle in list(self._idle.values()):
            shard = self.queue.take(idle.name)
            if shard is not None:
                del self._idle[idle.name]
                self._assign(idle, shard)

    def _assign(self, worker: RemoteWorker, shard: int | None) -> None:
        if shard is not None:
            self._advanced.setdefault(worker.name, {})[shard] = 0
            self._hangs.watch(worker.name)
        worker.reply(shard)
