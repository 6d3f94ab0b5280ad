"""How long each step of a stage took, seen through its progress."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from synthvlm.progress.display import Progress
    from synthvlm.progress.stage_state import ScorerWork

__all__ = ["StageClock", "TimedBatch", "full_batches"]


class TimedBatch(NamedTuple):
    """Seconds that an amount of work took."""

    amount: int
    seconds: float


class StageClock:
    """Progress that times the batches of each stage, and passes everything on to another one.

    A batch of ``generate`` takes the time to generate its images, and to wait for the scores of
    the batch before.

    Attributes:
        batches: By stage (or rule with a model), in their order.
    """

    def __init__(self, shown: Progress, hidden: Collection[str] = ()) -> None:
        """Show on ``shown`` all but the closing lines of ``hidden`` stages and their details."""
        self._shown, self._hidden = shown, hidden
        self._stage, self._last = "", 0.0
        self.batches: dict[str, list[TimedBatch]] = {}

    def start(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        """A stage begins, and its first batch."""
        self._stage, self._last = stage, time.monotonic()
        self._shown.start(stage, total, unit, done)

    def advance(self, amount: int) -> None:
        """A batch ends, unless nothing was done."""
        if amount:
            now = time.monotonic()
            self.batches.setdefault(self._stage, []).append(TimedBatch(amount, now - self._last))
            self._last = now
        self._shown.advance(amount)

    def finish(self, stage: str, line: str, details: Sequence[str] = ()) -> None:
        """Show the line and the details."""
        if stage not in self._hidden:
            self._shown.finish(stage, line, details)

    def update_workers(
        self, workers: int, waited: float | None, failed: int, scorers: ScorerWork | None = None
    ) -> None:
        """Pass it on."""
        self._shown.update_workers(workers, waited, failed, scorers)

    def note(self, line: str) -> None:
        """Show the line."""
        self._shown.note(line)


def full_batches(batches: Sequence[TimedBatch]) -> list[TimedBatch]:
    """The batches that show how fast a long run is: the largest that occur twice, but the first.

    A first batch loads the models and warms up; a last one may be small; one that did not fit
    into memory occurs once. Empty where there are too few batches.
    """
    sizes = Counter(batch.amount for batch in batches)
    size = max((size for size, times in sizes.items() if times > 1), default=None)
    return [batch for batch in batches if batch.amount == size][1:]
