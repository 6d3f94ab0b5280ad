"""The state of a stage: how far it is, how fast, what its workers do, and which shards it lost."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Self, TypeVar

__all__ = ["StageMeter", "StageState", "duration", "set_aside", "set_aside_notices"]

#: The rate is averaged over the last minute.
_WINDOW_S = 60.0
#: Updates that are kept. With more than this in a minute, the window is shorter.
_SAMPLES = 1000

T = TypeVar("T")
#: By scorer the images that it has scored, and the seconds of its work.
ScorerWork = Mapping[str, tuple[int, float]]


@dataclass(frozen=True, slots=True)
class StageState:
    """A stage at one moment.

    Attributes:
        stage: Its name.
        unit: What it counts, e.g. ``candidates``.
        done: Units done, including those of earlier runs.
        total: All units; None if not known.
        rate: Units per second; None until something is done.
        seconds_left: Estimated time left; None if not known.
        workers: Number of workers; None if the stage has not reported it.
        waited: Share of their time (0 .. 1) in which the generator waited; None if not known.
        failed: Number of candidates that failed.
        scorers: What each scorer has done in this run; empty where none works.
    """

    stage: str
    unit: str
    done: int
    total: int | None
    rate: float | None
    seconds_left: float | None
    workers: int | None
    waited: float | None
    failed: int
    scorers: ScorerWork = field(default_factory=dict)

    @classmethod
    def of(cls, values: object) -> Self | None:
        """From plain values written by another process; None if they are not a state."""
        if not isinstance(values, dict) or not isinstance(values.get("stage"), str):
            return None
        try:
            return cls(
                stage=values["stage"],
                unit=str(values["unit"]),
                done=int(values["done"]),
                total=_optional(int, values["total"]),
                rate=_optional(_finite, values["rate"]),
                seconds_left=_optional(_finite, values["seconds_left"]),
                workers=_optional(int, values["workers"]),
                waited=_optional(_finite, values["waited"]),
                failed=int(values["failed"]),
                scorers={
                    str(name): (int(images), _finite(seconds))
                    for name, (images, seconds) in dict(values.get("scorers", {})).items()
                },
            )
        except (KeyError, TypeError, ValueError):
            return None

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def text(self) -> str:
        """One line without the stage's name, e.g. ``120/400 candidates, 4.1/s, 68 s left``."""
        of = f"/{self.total:,}" if self.total is not None else ""
        parts = [f"{self.done:,}{of} {self.unit}"]
        if self.rate is not None:
            parts.append(f"{self.rate:,.1f}/s")
        if self.seconds_left is not None:
            parts.append(f"{duration(self.seconds_left)} left")
        return ", ".join([*parts, *self.worker_parts()])

    def worker_parts(self) -> list[str]:
        """What the workers do, in parts; empty if the stage has not reported it."""
        if self.workers is None:
            return []
        parts = ["1 worker" if self.workers == 1 else f"{self.workers:,} workers"]
        if self.waited is not None:
            parts.append(f"generator waits {self.waited:.0%}")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        return parts


class StageMeter:
    """Measures how far a stage is, and how fast. Thread-safe."""

    def __init__(
        self,
        stage: str,
        total: int | None,
        unit: str,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start measuring.

        Args:
            stage: The stage's name.
            total: All units; None if not known.
            unit: What it counts, e.g. ``candidates``.
            done: Units done by earlier runs; they do not count for the rate.
            clock: Counts seconds and never goes back. (A wall clock may jump.)
        """
        self._stage, self._total, self._unit, self._clock = stage, total, unit, clock
        self._lock = threading.Lock()
        self._done = done
        #: Units done in this run, with samples over time. Unlike ``_done``, it never goes down:
        #: work that has to be repeated took time as well.
        self._work = 0
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)], maxlen=_SAMPLES)
        self._workers: int | None = None
        self._waited: float | None = None
        self._failed = 0
        self._scorers: ScorerWork = {}

    def advance(self, amount: int) -> None:
        """Count more units as done; a negative number takes units back, to be done again."""
        with self._lock:
            self._done += amount
            if amount <= 0:
                return
            self._work += amount
            now = self._clock()
            self._samples.append((now, self._work))
            # The time up to the first update includes loading the models. It only counts until
            # there is a second update.
            while len(self._samples) > 2 and (
                self._samples[1][0] <= now - _WINDOW_S
                or (self._samples[0][1] == 0 and self._samples[1][0] < now)
            ):
                self._samples.popleft()

    def update_workers(
        self, workers: int, waited: float | None, failed: int, scorers: ScorerWork | None = None
    ) -> None:
        """Record what the workers do; see ``Progress.update_workers``."""
        with self._lock:
            self._workers, self._waited, self._failed = workers, waited, failed
            self._scorers = dict(scorers or {})

    def state(self) -> StageState:
        """The current state."""
        with self._lock:
            rate = self._rate()
            left = None
            if self._total is not None:
                remaining = max(0, self._total - self._done)
                left = 0.0 if not remaining else remaining / rate if rate else None
            return StageState(
                stage=self._stage,
                unit=self._unit,
                done=self._done,
                total=self._total,
                rate=rate,
                seconds_left=left,
                workers=self._workers,
                waited=self._waited,
                failed=self._failed,
                scorers=self._scorers,
            )

    def _rate(self) -> float | None:
        """Units per second, from the first to the last sample.

        If the next update is overdue, the rate falls as if an average one came now.
        """
        (started, before), (ended, after) = self._samples[0], self._samples[-1]
        work, updates = after - before, len(self._samples) - 1
        elapsed = self._clock() - started
        if not updates or ended <= started or elapsed <= 0:
            return None
        return min(work / (ended - started), (work + work / updates) / elapsed)


def duration(seconds: float) -> str:
    """A duration in its two largest units, e.g. ``3 h 20 min``."""
    whole = round(seconds)
    scales = [(86400, "d"), (3600, "h"), (60, "min"), (1, "s")]
    for (size, name), (smaller, below) in pairwise(scales):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size:,} {name}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


def set_aside(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Events of the shards that were set aside and have not been done since, by stage and shard."""
    lost: dict[tuple[str, int], Mapping[str, Any]] = {}
    for event in events:
        if event.get("event") in ("set_aside", "shard"):
            key = str(event.get("stage")), int(event.get("shard", -1))
            lost.pop(key, None)
            if event["event"] == "set_aside":
                lost[key] = event
        elif event.get("event") == "shards":
            remaining = set(event.get("set_aside", ()))
            for key in [key for key in lost if key[0] == event.get("stage")]:
                if key[1] not in remaining:
                    del lost[key]
    return [lost[key] for key in sorted(lost)]


def set_aside_notices(events: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each shard that is set aside."""
    return [
        f"Shard {event.get('shard')} of the stage {event.get('stage')} is set aside: "
        f"its workers died {event.get('deaths')} times ({event.get('problem')}). Its "
        f"{event.get('candidates', 0):,} candidates are missing; the next run retries it."
        for event in set_aside(events)
    ]


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _optional(convert: Callable[[Any], T], value: Any) -> T | None:
    return None if value is None else convert(value)
