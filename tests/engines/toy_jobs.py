"""Workers that write a file for each shard; some die, as told."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from synthvlm.engines.base import Reporter, ShardResult
from synthvlm.errors import ModelError

__all__ = ["Told", "ToyJob"]


class Told:
    """A Reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.done = 0
        self.lines: list[str] = []

    def advance(self, amount: int) -> None:
        self.done += amount

    def note(self, line: str) -> None:
        self.lines.append(line)


@dataclass(frozen=True)
class ToyJob:
    """Writes ``<shard>`` into a folder; ten units a shard.

    Attributes:
        folder: Where.
        deadly: Shards that kill their worker, each time.
        once: Shards that kill their worker the first time.
        raising: Shards at which it raises something unexpected.
        fatal: Shards at which it raises an error that stops the run.
        hanging: Shards at which it does nothing for five seconds.
        crowds: Shards at which it waits until so many workers have begun one.
        pause_s: Seconds of work for each unit, times one to three: workers keep no step.
        start_dies: Whether no worker gets as far as its first shard.
    """

    folder: Path
    deadly: tuple[int, ...] = ()
    once: tuple[int, ...] = ()
    raising: tuple[int, ...] = ()
    fatal: tuple[int, ...] = ()
    hanging: tuple[int, ...] = ()
    crowds: tuple[tuple[int, int], ...] = ()
    pause_s: float = 0.0
    start_dies: bool = False

    def __call__(self, progress: Reporter) -> ToyWorker:
        if self.start_dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return ToyWorker(self, progress)


class ToyWorker:
    """Holds one finished shard back until the next is begun, as the real one does."""

    def __init__(self, job: ToyJob, progress: Reporter) -> None:
        self._job, self._progress = job, progress

    def close(self) -> None:
        (self._job.folder / f"closed-{os.getpid()}").touch()

    def __call__(self, shards: Iterable[int]) -> Iterator[ShardResult]:
        held: ShardResult | None = None
        for shard in shards:
            try:
                self._do(shard)
            except KeyboardInterrupt:
                (self._job.folder / f"given-up-{shard}").touch()
                raise
            before, held = held, ShardResult(shard, {"generated": 10}, 1.0, 0.5)
            if before is not None:
                yield self._committed(before)
        if held is not None:
            yield self._committed(held)

    def _do(self, shard: int) -> None:
        (self._job.folder / f"begun-{os.getpid()}").touch()
        wanted, until = dict(self._job.crowds).get(shard, 0), time.monotonic() + 120
        while len(list(self._job.folder.glob("begun-*"))) < wanted and time.monotonic() < until:
            time.sleep(0.05)
        for unit in range(10):
            time.sleep(self._job.pause_s * (1 + shard % 3))
            self._progress.advance(1)
            if unit == 5:
                self._fail(shard)

    def _fail(self, shard: int) -> None:
        if shard in self._job.hanging:
            time.sleep(5)
        seen = self._job.folder / f"seen-{shard}"
        if shard in self._job.deadly or (shard in self._job.once and not seen.exists()):
            seen.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if shard in self._job.raising:
            raise RuntimeError(f"shard {shard} is cursed\nand more")
        if shard in self._job.fatal:
            raise ModelError("the model is gone")

    def _committed(self, result: ShardResult) -> ShardResult:
        with (self._job.folder / f"{result.shard}").open("a") as file:
            file.write("x")
        return result
