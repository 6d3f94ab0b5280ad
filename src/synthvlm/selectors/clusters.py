"""Clusters of embeddings: k-means by cosine similarity, the same every time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["cluster_centers", "nearest_centers", "unit_blocks", "unit_vectors"]

#: Rows that are float32 at a time.
_BLOCK = 8192
#: Rows for each cluster, of which its center is found; and how often it is improved.
_SAMPLE, _ROUNDS = 64, 10

Embeddings = npt.NDArray[np.floating]


def unit_blocks(embeddings: Embeddings) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """The first row and the unit vectors of each block of rows; a row of zeros stays one."""
    for start in range(0, len(embeddings), _BLOCK):
        block = embeddings[start : start + _BLOCK].astype(np.float32)
        yield start, _unit(block)


def unit_vectors(embeddings: Embeddings) -> npt.NDArray[np.float32]:
    """The unit vectors of all rows, in one array; a row of zeros stays one."""
    empty = np.empty((0, embeddings.shape[1]), np.float32)
    return np.concatenate([empty, *(block for _, block in unit_blocks(embeddings))])


def cluster_centers(embeddings: Embeddings, count: int) -> npt.NDArray[np.float32]:
    """Centers of up to ``count`` clusters, found on a sample of the rows.

    They depend on the rows and their order alone.

    Args:
        embeddings: Shape (n, d), n at least 1.
        count: At least 1.

    Returns:
        Unit vectors, shape (min(count, n), d).
    """
    random = np.random.default_rng(0)
    count = min(count, len(embeddings))
    size = min(len(embeddings), _SAMPLE * count)
    rows = np.sort(random.choice(len(embeddings), size, replace=False))
    sample = _unit(embeddings[rows].astype(np.float32))
    centers: npt.NDArray[np.float32] = sample[np.sort(random.choice(size, count, replace=False))]
    for _ in range(_ROUNDS):
        (labels,) = nearest_centers(sample, centers).T
        order = np.argsort(labels, kind="stable")
        present, starts = np.unique(labels[order], return_index=True)
        centers = centers.copy()  # one without rows stays where it is
        centers[present] = _unit(np.add.reduceat(sample[order], starts, axis=0))
    return centers


def nearest_centers(
    embeddings: Embeddings, centers: npt.NDArray[np.float32], count: int = 1
) -> npt.NDArray[np.int32]:
    """The ``count`` centers nearest to each row, nearest first, ties by number.

    Returns:
        Numbers of centers, shape (n, min(count, centers)).
    """
    count = min(count, len(centers))
    nearest = np.empty((len(embeddings), count), np.int32)
    for start, block in unit_blocks(embeddings):
        similarity = block @ centers.T
        lines = np.arange(len(block))
        for place in range(count):
            best = similarity.argmax(axis=1)
            nearest[start : start + len(block), place] = best
            similarity[lines, best] = -np.inf
    return nearest


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = vectors / np.maximum(lengths, np.float32(1e-12))
    return unit
