"""Which candidates of a shard's captions are drawn next, which count, and which wins."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from synthvlm.data import Candidate

__all__ = ["CandidatePlan", "Key", "rank"]

#: A caption's id, and the number of one of its candidates.
Key = tuple[str, int]


class CandidatePlan:
    """The candidates of a shard.

    Without thresholds every caption gets all its candidates. With a threshold for each number, a
    caption is done with the first candidate, in the order of their numbers, with which the best
    score so far reaches its threshold: those behind are not drawn, and do not count if an earlier
    attempt had drawn them. So which candidate wins depends on neither the batch size nor the shards
    nor what was drawn before.
    """

    def __init__(
        self,
        ids: Sequence[str],
        count: int,
        thresholds: Sequence[float] | None,
        known: Mapping[Key, Candidate],
    ) -> None:
        """Plan ``count`` candidates for each caption, some of which may be known."""
        self.rows: dict[str, dict[int, Candidate]] = {
            id: {index: known[id, index] for index in range(count) if (id, index) in known}
            for id in ids
        }
        self._count, self._thresholds = count, thresholds
        self._in_work: set[Key] = set()
        self._open = {id: None for id in ids if not self.is_complete(id)}

    def next_batch(self, size: int) -> list[Key]:
        """Up to ``size`` candidates to draw now: captions in order, and a caption's in order."""
        batch: list[Key] = []
        for id in self._open:
            for key in self._wanted(id):
                if len(batch) == size:
                    break
                batch.append(key)
            if len(batch) == size:
                break
        self._in_work.update(batch)
        return batch

    def take(self, row: Candidate) -> bool:
        """Take a drawn candidate; whether its caption is complete with it."""
        self.rows[row.caption_id][row.index] = row
        self._in_work.discard((row.caption_id, row.index))
        if not self.is_complete(row.caption_id):
            self._open[row.caption_id] = None  # one that was done may be so no more
            return False
        self._open.pop(row.caption_id, None)
        return True

    def is_complete(self, id: str) -> bool:
        """Whether nothing of a caption is left to draw."""
        return self.counting(id) == self._count or self._reached(id) is not None

    def is_drawn(self) -> bool:
        """Whether all captions are complete."""
        return not self._open

    def needs_scores(self) -> bool:
        """Whether what is drawn next depends on scores that are not there yet."""
        return self._thresholds is not None

    def counting(self, id: str) -> int:
        """How many of a caption's candidates are there, up to the first that is missing."""
        rows = self.rows[id]
        return next((index for index in range(self._count) if index not in rows), self._count)

    def eligible(self, id: str) -> Iterator[Candidate]:
        """The usable candidates of a caption among which the best wins."""
        last = self._reached(id)
        for index in range(self._count if last is None else last + 1):
            row = self.rows[id].get(index)
            if row is not None and row.status == "ok":
                yield row

    def winner(self, id: str) -> int | None:
        """Number of the best candidate of a caption; None where none is usable."""
        best = min(self.eligible(id), key=rank, default=None)
        return None if best is None else best.index

    def unneeded(self, id: str) -> range:
        """Numbers of the candidates behind the one with which a caption was done."""
        last = self._reached(id)
        return range(0) if last is None else range(last + 1, self._count)

    def _wanted(self, id: str) -> Iterator[Key]:
        first = self.counting(id)
        if self._thresholds is None:
            missing = [n for n in range(first, self._count) if n not in self.rows[id]]
        else:
            missing = [first]
        # With a threshold, what comes next waits for the score of what is in work.
        for index in missing:
            if (id, index) not in self._in_work:
                yield id, index

    def _reached(self, id: str) -> int | None:
        """Number of the candidate with which a caption is done; None where there is none."""
        if self._thresholds is None:
            return None
        best = -math.inf
        for index in range(self.counting(id)):
            score = self.rows[id][index].score
            best = best if score is None else max(best, score)
            if best >= self._thresholds[index]:
                return index
        return None


def rank(row: Candidate) -> tuple[float, int]:
    """Sort key of usable candidates: best score first, ties to the lower index."""
    assert row.score is not None
    return (-row.score, row.index)
