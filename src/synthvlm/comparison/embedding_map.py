"""Embeddings of several data sets on one plane, by t-SNE, and the maps as inline SVG."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from synthvlm.safe_text import for_html

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "FEWEST",
    "ITERATIONS",
    "EmbeddingMap",
    "embedding_map",
    "has_tsne",
    "map_chart",
    "place_points",
    "principal_components",
]

#: t-SNE's customary perplexity; of few points a third of them.
_PERPLEXITY = 30.0
#: More points are laid out with approximations.
_EXACT, _COMPONENTS = 10_000, 50
#: Of openTSNE: 250 with early exaggeration, and 500.
ITERATIONS, _EVERY = 750, 25
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
    together = np.concatenate(sets)
    placed = place_points(together, seed=seed)
    if placed is None:
        return None
    ends = np.cumsum([len(one) for one in sets])[:-1]
    return EmbeddingMap(tuple(np.split(placed, ends)), _perplexity(len(together)))


def place_points(
    vectors: npt.NDArray[np.float32],
    *,
    seed: int,
    jobs: int = 1,
    advance: Callable[[int], object] = lambda iterations: None,
) -> npt.NDArray[np.float64] | None:
    """Lay out embeddings as ``embedding_map`` does: all within -1 .. 1, shape (n, 2).

    Above 10,000 points neighbours are approximate, found in 50 principal components, and forces
    are interpolated (Linderman et al. 2019): else the time would grow with the square.

    Args:
        vectors: Of unit length, shape (n, d).
        seed: Of the little that is random.
        jobs: Threads; the map of more than one is not exactly the same every time.
        advance: Called with the number of further iterations, of ``ITERATIONS``.

    Returns:
        The points; None where there are fewer than eight different ones.
    """
    from openTSNE import TSNE

    def report(*_: object) -> bool:
        advance(_EVERY)
        return False  # True would end it

    count = len(vectors)
    is_large = count > _EXACT
    some = vectors[:_EXACT].astype(np.float64)
    if count < FEWEST or len(np.unique(some, axis=0)) < FEWEST:
        return None
    tsne = TSNE(
        perplexity=_perplexity(count),
        metric="cosine",
        initialization="pca",
        neighbors="approx" if is_large else "exact",
        negative_gradient_method="fft" if is_large else "bh",
        n_jobs=jobs,
        random_state=seed,
        callbacks=report,
        callbacks_every_iters=_EVERY,
    )
    points = np.asarray(tsne.fit(principal_components(vectors) if is_large else some))
    points = points - (points.max(axis=0) + points.min(axis=0)) / 2
    scaled: npt.NDArray[np.float64] = points / max(float(np.abs(points).max()), 1e-12)
    return scaled


def _perplexity(count: int) -> float:
    return min(_PERPLEXITY, (count - 1) / 3)


def principal_components(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The components of most variance about the mean of (n, d): shape (n, 50), or (n, d)."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    centred = vectors - mean.astype(np.float32)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    most = axes[:, : -_COMPONENTS - 1 : -1].astype(np.float32)
    return np.asarray(centred @ most, np.float64)


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
