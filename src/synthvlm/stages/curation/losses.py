"""What of the sources could not be read, and whether that stops a run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator

from synthvlm.data import Caption

__all__ = ["Losses"]


class Losses:
    """Counts captions that were read, and rows or lines of sources that could not be.

    Attributes:
        first: The source and problem of the first one that could not be read.
    """

    def __init__(self) -> None:
        """Nothing is read yet."""
        self.first: str | None = None
        self._rows: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()

    def counted(self, captions: Iterable[Caption]) -> Iterator[Caption]:
        """Pass captions on, counted."""
        for caption in captions:
            self._rows[caption.source] += caption.size
            if caption.problem is not None:
                self._lost[caption.source] += caption.size
                self.first = self.first or f"{caption.source}: {caption.problem}"
            yield caption

    @property
    def count(self) -> int:
        """Rows or lines that could not be read."""
        return self._lost.total()

    def excess(self, share: float) -> str | None:
        """What stops a run in which a share of rows may fail, if anything does.

        One row always may, unless it is half of a source or more.

        Args:
            share: ``run.max_failed_share``.
        """
        counts = [(self.count, self._rows.total(), "")]
        counts += [
            (lost, self._rows[source], f" of source {source!r}")
            for source, lost in self._lost.items()
            if 2 * lost >= self._rows[source]
        ]
        for lost, rows, of_source in counts:
            most = share * rows if 2 * lost >= rows else math.ceil(share * rows)
            if lost > most:
                return (
                    f"{lost} of {rows} captions{of_source} are unreadable, more than "
                    f"run.max_failed_share ({share}) allows; the first: {self.first}"
                )
        return None
