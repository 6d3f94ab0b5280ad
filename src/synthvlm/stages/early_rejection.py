"""Which candidates are dropped part-way: those whose preview is behind an earlier one's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from synthvlm.stages.candidate_plan import Key

__all__ = ["PreviewRule"]


class PreviewRule:
    """Finishes a candidate if no lower number of its caption has a better preview by the margin.

    Candidates come in the order of their numbers, so what is finished depends on neither the batch
    size nor what other captions are drawn beside.
    """

    def __init__(self, margin: float, known: Mapping[Key, float]) -> None:
        """Take the margin, and the preview scores of candidates that are there already."""
        self._margin = margin
        self._scores: dict[str, dict[int, float]] = defaultdict(dict)
        for (id, index), score in known.items():
            self._scores[id][index] = score

    def keep(self, keys: Sequence[Key], scores: Sequence[float]) -> list[bool]:
        """Whether each candidate is to be finished, by the scores of their previews."""
        for (id, index), score in zip(keys, scores, strict=True):
            self._scores[id][index] = score
        return [
            score >= max(self._before(key), default=score) - self._margin
            for key, score in zip(keys, scores, strict=True)
        ]

    def _before(self, key: Key) -> list[float]:
        return [score for index, score in self._scores[key[0]].items() if index < key[1]]
