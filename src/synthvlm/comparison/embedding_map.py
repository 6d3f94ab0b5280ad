"""Embeddings of several data sets on one plane, by t-SNE, and the maps as inline SVG."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from synthvlm.safe_text import for_html

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["FEWEST", "EmbeddingMap", "embedding_map", "has_tsne", "map_chart"]

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


_SIDE, _EDGE = 480, 12
#: Colours of the page's CSS; more sets take them from the start again.
COLOURS = 6


def map_chart(plane: EmbeddingMap, labels: Sequence[str], *, what: str) -> Markup:
    """Every point as a dot in the colour of its set; the sets' dots take turns to be on top.

    Args:
        plane: The map.
        labels: Of the data sets.
        what: What the points are, for people who cannot see the chart.
    """
    half = _SIDE / 2
    scale = half - _EDGE
    dots = []
    for number, points in enumerate(plane.points):
        for rank, (x, y) in enumerate(points):
            place = f'cx="{half + scale * x:.1f}" cy="{half - scale * y:.1f}"'
            dots.append((rank, number, f'<circle class="set-{number % COLOURS}" {place} r="2.6"/>'))
    dots.sort(key=lambda dot: dot[:2])
    numbers = ", ".join(
        f"{len(points):,} of {label}" for points, label in zip(plane.points, labels, strict=True)
    )
    title = for_html(f"Map of {what}: {numbers}")
    return Markup(
        f'<svg class="map" viewBox="0 0 {_SIDE} {_SIDE}" role="img" aria-label="{title}">'
        f"{''.join(dot for _, _, dot in dots)}</svg>"
    )
