"""Coverage: pairs that together stand for all captions, and score well (facility location).

Chosen is the set S of the asked size that makes

    sum over all pairs i of max(0, max over j in S of cosine(i, j))  +  weight * sum over S of z_j

large, with z_j the standardised score (Lin and Bilmes, "A Class of Submodular Functions for
Document Summarization", ACL 2011; facility location). It is submodular, and with a constant added
to each z_j, which changes no set of a given size, monotone: greedy selection then reaches at least
1 - 1/e of the best value of that function (Nemhauser, Wolsey and Fisher 1978). The greedy one is
found lazily (Minoux 1978): the gain of a pair never rises, so an old gain is an upper bound.

More than ``PART`` pairs are cut into clusters of at most that many, and a pair counts as covered by
pairs of its own cluster alone. This is the two-level scheme of GreeDi (Mirzasoleiman et al.,
"Distributed Submodular Maximization", NIPS 2013), with parts by similarity: greedy in each part,
then greedy over what the parts chose. As parts do not cover each other, gains in one change none in
another, and the second level takes the largest gains of all parts in their order: it is exactly
greedy selection for the sum over parts, which the 1 - 1/e holds for, and which is a lower bound of
the function above.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from synthvlm.components.settings import Settings
from synthvlm.selectors.base import EMBEDDINGS, IMAGE_EMBEDDING, TEXT_EMBEDDING, Selector, matrix
from synthvlm.selectors.clusters import cluster_centers, nearest_centers, unit_vectors

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PART", "CoverageSelector", "CoverageSettings", "greedy", "parts_of"]

#: Pairs of which all similarities are in memory at a time: 64 MiB.
PART = 4096
#: Similarities are multiples of this, so that how a library rounds decides nothing.
_STEP = 2.0**-14
_COLUMNS = {
    "text": [TEXT_EMBEDDING],
    "image": [IMAGE_EMBEDDING],
    "both": list(EMBEDDINGS),
}

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


class CoverageSettings(Settings):
    """What is to be covered, and what a score counts beside it."""

    embeddings: Literal["text", "image", "both"] = Field(
        "text",
        description="Which similarity: of captions, of images, or the mean of both.",
    )
    score_weight: float = Field(
        1.0,
        ge=0.0,
        description="Of the standardised score; what covers one more caption wholly counts 1.",
    )


class CoverageSelector(Selector):
    """Pairs that together are near all captions and score well: facility location, greedily."""

    name: ClassVar[str] = "coverage"
    Settings: ClassVar[type[Settings]] = CoverageSettings

    def __init__(self, embeddings: str, score_weight: float) -> None:
        """See ``CoverageSettings``."""
        self._columns, self._weight = _COLUMNS[embeddings], score_weight

    @classmethod
    def columns(cls, settings: Any) -> Sequence[str]:
        """The embeddings whose similarity counts."""
        assert isinstance(settings, CoverageSettings)
        return _COLUMNS[settings.embeddings]

    def select(self, pairs: pa.Table, count: int | None) -> np.ndarray:
        """Rows in the order in which they were chosen: the first n cover best among n."""
        count = len(pairs) if count is None else min(count, len(pairs))
        if not count:
            return np.zeros(0, np.int64)
        scores = pairs["score"].to_numpy()
        spread = scores.std()
        standard = (scores - scores.mean()) / (spread if spread > 0 else 1)
        bonus = (self._weight * standard).astype(np.float32)
        embeddings = [matrix(pairs, name) for name in self._columns]
        parts = parts_of(embeddings[0], PART)
        return _merged(embeddings, bonus, parts, count)


def parts_of(embeddings: npt.NDArray[np.floating], largest: int) -> list[Rows]:
    """Rows in clusters of at most ``largest``, each in ascending order; the same every time.

    Args:
        embeddings: Shape (n, d).
        largest: At least 1.
    """
    finished, waiting = [], [np.arange(len(embeddings))]
    while waiting:
        rows = waiting.pop()
        if len(rows) <= largest:
            finished.append(rows)
            continue
        vectors = embeddings[rows] if len(rows) < len(embeddings) else embeddings
        centers = cluster_centers(vectors, -(-2 * len(rows) // largest))
        labels = nearest_centers(vectors, centers)[:, 0]
        order = np.argsort(labels, kind="stable")
        _, starts = np.unique(labels[order], return_index=True)
        split = [rows[part] for part in np.split(order, starts[1:])]
        if len(split) == 1:  # all alike
            split = [rows[start : start + largest] for start in range(0, len(rows), largest)]
        waiting += split
    return finished


def _merged(
    embeddings: Sequence[npt.NDArray[np.float16]],
    bonus: Floats,
    parts: Sequence[Rows],
    count: int,
) -> Rows:
    """The second level: the largest gains of all parts, ties by row."""
    chosen: list[Rows] = [np.zeros(0, np.int64)] * len(parts)
    gains: list[Floats] = [np.zeros(0, np.float32)] * len(parts)
    # A part chooses a bit more than its share; one that all of this is taken from chooses on.
    asked = [min(len(rows), -(-3 * count * len(rows) // (2 * len(bonus)))) for rows in parts]
    todo = list(range(len(parts)))
    while todo:
        for n in todo:
            similarity = _similarity(embeddings, parts[n])
            places, gain = greedy(similarity, bonus[parts[n]], asked[n])
            chosen[n], gains[n] = parts[n][places], gain
        rows, values = np.concatenate(chosen), np.concatenate(gains)
        of = np.repeat(np.arange(len(parts)), [len(part) for part in chosen])
        order = np.lexsort((rows, -values))[:count]
        taken = np.bincount(of[order], minlength=len(parts))
        todo = [n for n, rows in enumerate(parts) if taken[n] == asked[n] < len(rows)]
        for n in todo:
            asked[n] = min(len(parts[n]), 2 * asked[n])
    merged: Rows = rows[order]
    return merged


def _similarity(embeddings: Sequence[npt.NDArray[np.float16]], rows: Rows) -> Floats:
    """Mean cosine of some rows by each kind of embedding, not below 0; shape (n, n)."""
    total = np.zeros((len(rows), len(rows)), np.float32)
    for one in embeddings:
        unit = unit_vectors(one[rows])
        total += unit @ unit.T
    total *= 1 / (len(embeddings) * _STEP)
    np.rint(total, out=total)
    total *= _STEP
    return np.maximum(total, 0, out=total)


def greedy(similarity: Floats, bonus: Floats, count: int) -> tuple[Rows, Floats]:
    """Choose rows one by one, each the one that gains most, ties to the first; lazily.

    Args:
        similarity: Symmetric, not negative, shape (n, n).
        bonus: What a row adds by itself, shape (n,).
        count: How many, at most n.

    Returns:
        The rows in the order in which they were chosen, and what each gained, never rising;
        shape (count,).
    """
    covered = np.zeros(len(bonus), np.float32)
    bounds = np.array([row.sum() for row in similarity], np.float32) + bonus
    rows, gains = np.empty(count, np.int64), np.empty(count, np.float32)
    for place in range(count):
        while True:
            best = int(bounds.argmax())
            gain = np.maximum(similarity[best] - covered, 0).sum() + bonus[best]
            if gain >= bounds[best]:  # not stale: nothing else can gain more
                break
            bounds[best] = gain
        rows[place], gains[place] = best, gain
        bounds[best] = -np.inf
        np.maximum(covered, similarity[best], out=covered)
    return rows, np.minimum.accumulate(gains)
