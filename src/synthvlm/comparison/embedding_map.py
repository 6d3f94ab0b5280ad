"""Embeddings of several data sets on one plane, by t-SNE."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["FEWEST", "EmbeddingMap", "embedding_map", "has_tsne"]

#: t-SNE's customary perplexity; of few points a third of them.
_PERPLEXITY = 30.0
#: Fewer points have no neighbourhoods to show.
FEWEST = 8


@dataclass(frozen=True, slots=True)
class EmbeddingMap:
    """Points on a plane, set by set.

    Attributes:
        points: For each data set, shape (n, 2), all within -1 .. 1.
        perplexity: That t-SNE was given.
    """

    points: tuple[npt.NDArray[np.float64], ...]
    perplexity: float


def has_tsne() -> bool:
    """Whether openTSNE is installed."""
    return importlib.util.find_spec("openTSNE") is not None


def embedding_map(sets: Sequence[npt.NDArray[np.float32]], *, seed: int) -> EmbeddingMap | None:
    """Lay the embeddings of all sets out together (van der Maaten, Hinton 2008).

    t-SNE with cosine distances from a PCA start, by openTSNE, on one thread: equal embeddings and
    seeds give equal maps.

    Args:
        sets: Embeddings of unit length, each shape (n, d) with the same d.
        seed: Of the little that is random.

    Returns:
        The map; None where there are fewer than eight different points.
    """
    from openTSNE import TSNE

    together = np.concatenate(sets).astype(np.float64)
    count = len(together)
    if count < FEWEST or len(np.unique(together, axis=0)) < FEWEST:
        return None
    perplexity = min(_PERPLEXITY, (count - 1) / 3)
    tsne = TSNE(
        perplexity=perplexity,
        metric="cosine",
        initialization="pca",
        neighbors="exact",
        negative_gradient_method="bh",
        n_jobs=1,
        random_state=seed,
    )
    points = np.asarray(tsne.fit(together))
    points = points - (points.max(axis=0) + points.min(axis=0)) / 2
    points = points / max(float(np.abs(points).max()), 1e-12)
    ends = np.cumsum([len(one) for one in sets])[:-1]
    return EmbeddingMap(tuple(np.split(points, ends)), perplexity)
