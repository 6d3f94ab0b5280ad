"""How long each step of a stage took, seen through its progress."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from synthvlm.progress.display import Progress

__all__ = ["Lap", "StageClock", "full_batches"]


class Lap(NamedTuple):
    """Seconds that an amount of work took."""

    amount: int
    seconds: float


class StageClock:
    """Progress that notes the laps of each stage, and shows on another one what it is told.

    A lap of ``generate`` is a batch: its drawing, and waiting for the scores of the batch before.

    Attributes:
        laps: By stage (or rule with a model), in their order.
    """

    def __init__(self, shown: Progress, hidden: Collection[str] = ()) -> None:
        """Show on ``shown`` all but the closing lines of ``hidden`` stages and their details."""
        self._shown, self._hidden = shown, hidden
        self._stage, self._last = "", 0.0
        self.laps: dict[str, list[Lap]] = {}

    def start(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        """A stage begins, and its first lap."""
        self._stage, self._last = stage, time.monotonic()
        self._shown.start(stage, total, unit, done)

    def advance(self, amount: int) -> None:
        """A lap ends, unless nothing was done."""
        if amount:
            now = time.monotonic()
            self.laps.setdefault(self._stage, []).append(Lap(amount, now - self._last))
            self._last = now
        self._shown.advance(amount)

    def finish(self, stage: str, line: str, details: Sequence[str] = ()) -> None:
        """Show the line and the details."""
        if stage not in self._hidden:
            self._shown.finish(stage, line, details)

    def update_workers(self, workers: int, waited: float | None, failed: int) -> None:
        """Pass it on."""
        self._shown.update_workers(workers, waited, failed)

    def note(self, line: str) -> None:
        """Show the line."""
        self._shown.note(line)


def full_batches(laps: Sequence[Lap]) -> list[Lap]:
    """The batches that tell how fast a long run is: the largest that occur twice, but the first.

    A first batch loads the models and warms up; a last one may be small; one that did not fit
    into memory occurs once. Empty where too few batches were drawn.
    """
    sizes = Counter(lap.amount for lap in laps)
    size = max((size for size, times in sizes.items() if times > 1), default=None)
    return [lap for lap in laps if lap.amount == size][1:]
