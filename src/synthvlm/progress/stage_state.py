"""How far a stage is, how fast it goes, and what its workers do: for people and for machines."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self, TypeVar

__all__ = ["StageMeter", "StageState", "duration"]

#: The rate is that of about the last minute.
_WINDOW_S = 60.0
#: Updates that are remembered; where there are more in a minute, the window is shorter.
_SAMPLES = 1000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StageState:
    """A stage at one moment.

    Attributes:
        stage: Its name.
        unit: What it counts, e.g. ``candidates``.
        done: How many are done, those of earlier runs among them.
        total: How many there are; None: not known.
        rate: Units per second; None before anything is done.
        seconds_left: Time left at that rate; None where it cannot be told.
        workers: How many there are; None: the stage has not said.
        waited: Share of their time (0 .. 1) in which the generator waited; None: not known.
        failed: Candidates that failed.
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

    @classmethod
    def of(cls, values: object) -> Self | None:
        """From plain values that another process wrote; None where they are no state."""
        if not isinstance(values, dict) or not isinstance(values.get("stage"), str):
            return None
        try:
            return cls(
                stage=values["stage"],
                unit=str(values["unit"]),
                done=int(values["done"]),
                total=_maybe(int, values["total"]),
                rate=_maybe(_finite, values["rate"]),
                seconds_left=_maybe(_finite, values["seconds_left"]),
                workers=_maybe(int, values["workers"]),
                waited=_maybe(_finite, values["waited"]),
                failed=int(values["failed"]),
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
        return ", ".join([*parts, *self.crew()])

    def crew(self) -> list[str]:
        """What the workers do, in parts; empty where the stage has not said."""
        if self.workers is None:
            return []
        parts = ["1 worker" if self.workers == 1 else f"{self.workers:,} workers"]
        if self.waited is not None:
            parts.append(f"generator waits {self.waited:.0%}")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        return parts


class StageMeter:
    """Counts what a stage does, and how fast; any thread may tell it and ask it."""

    def __init__(
        self,
        stage: str,
        total: int | None,
        unit: str,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin.

        Args:
            stage: The stage's name.
            total: Units in all; None: not known.
            unit: Of what it counts.
            done: Units that were done before; they are no part of the rate.
            clock: Seconds that only grow: a wall clock may jump.
        """
        self._stage, self._total, self._unit, self._clock = stage, total, unit, clock
        self._lock = threading.Lock()
        self._done = done
        #: All that was ever done here, and when; what is taken back was done all the same.
        self._work = 0
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)], maxlen=_SAMPLES)
        self._workers: int | None = None
        self._waited: float | None = None
        self._failed = 0

    def advance(self, amount: int) -> None:
        """That many more are done; fewer than 0 are taken back, and are to be done again."""
        with self._lock:
            self._done += amount
            if amount <= 0:
                return
            self._work += amount
            now = self._clock()
            self._samples.append((now, self._work))
            # The time to the first update holds the loading of models too: once there are others,
            # it counts no more.
            while len(self._samples) > 2 and (
                self._samples[1][0] <= now - _WINDOW_S
                or (self._samples[0][1] == 0 and self._samples[1][0] < now)
            ):
                self._samples.popleft()

    def crew(self, workers: int, waited: float | None, failed: int) -> None:
        """What the workers do now; as ``Progress.crew``."""
        with self._lock:
            self._workers, self._waited, self._failed = workers, waited, failed

    def state(self) -> StageState:
        """How things are now."""
        with self._lock:
            rate = self._rate()
            left = None
            if self._total is not None:
                to_do = max(0, self._total - self._done)
                left = 0.0 if not to_do else to_do / rate if rate else None
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
            )

    def _rate(self) -> float | None:
        """From update to update; where one is overdue, as if it came now and was as the others."""
        (began, before), (ended, after) = self._samples[0], self._samples[-1]
        work, updates = after - before, len(self._samples) - 1
        waiting = self._clock() - began
        if not updates or ended <= began or waiting <= 0:
            return None
        return min(work / (ended - began), (work + work / updates) / waiting)


def duration(seconds: float) -> str:
    """A time for people, in its two largest units, e.g. ``3 h 20 min``."""
    whole = round(seconds)
    scales = [(86400, "d"), (3600, "h"), (60, "min"), (1, "s")]
    for (size, name), (smaller, below) in pairwise(scales):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size:,} {name}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _maybe(convert: Callable[[Any], T], value: Any) -> T | None:
    return None if value is None else convert(value)
