"""How long workers with a shard in hand say nothing: one that hangs neither dies nor tells."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Silence"]

#: So many times the longest silence that any worker broke, and at least so long, is remarkable.
_FACTOR = 10
_LEAST_S = 60.0
#: The driver looks every few seconds. Who did not for so long was stopped, or waited for a store.
_AWAY_S = 30.0


class Silence:
    """The time since each worker at work was heard of, against how long that took before.

    The loading of models is a silence, too, which the first worker that breaks it makes known.
    While the driver does not look, no time passes: what was said meanwhile it has yet to hear.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take a clock that counts seconds and only grows."""
        self._clock = clock
        self._looked, self._away = clock(), 0.0
        self._heard: dict[str, float] = {}
        self._told: set[str] = set()
        self._longest: float | None = None

    def begun(self, worker: str) -> None:
        """A worker has something in hand, from now on if it had nothing."""
        self._heard.setdefault(worker, self._now())

    def heard(self, worker: str) -> bool:
        """A worker says something; returns whether it was told of as silent."""
        now = self._now()
        if worker in self._heard:
            self._longest = max(self._longest or 0.0, now - self._heard[worker])
            self._heard[worker] = now
        was_told = worker in self._told
        self._told.discard(worker)
        return was_told

    def left(self, worker: str) -> None:
        """A worker has nothing in hand, or is gone."""
        self._heard.pop(worker, None)
        self._told.discard(worker)

    def news(self) -> dict[str, str]:
        """Workers that have become remarkably silent, and for how long, in words."""
        now = self._now()
        if self._longest is None:
            return {}
        bound = max(_LEAST_S, _FACTOR * self._longest)
        found = {
            worker: f"nothing heard of it for {(now - heard) / 60:.0f} min, and of no worker for "
            f"more than {self._longest:.0f} s before"
            for worker, heard in self._heard.items()
            if now - heard > bound and worker not in self._told
        }
        self._told |= found.keys()
        return found

    def _now(self) -> float:
        """The clock's time, less that in which the driver was away."""
        before, self._looked = self._looked, self._clock()
        if self._looked - before > _AWAY_S:
            self._away += self._looked - before
        return self._looked - self._away
