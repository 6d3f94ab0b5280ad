"""Near-duplicate images: of those that are nearly the same, the best stays.

Two images are twins if the cosine similarity of their embeddings is above a threshold, or their
difference hashes differ in few bits. The images are gone through best first; one is dropped if a
twin of it was kept. So a dropped image has a better twin that stays, and of kept ones no two were
found to be twins.

Not all are compared. By embeddings: each lies in the list of its nearest of many cluster centers,
and is compared exactly with the lists of its ``_PROBES`` nearest ones. By hash: with those that
agree in one of so many bands of bits that twins must (pigeonhole), so that none is missed. Of an
image that has more than ``_TWINS`` better twins in one list, the best ones are looked at.
``benchmarks/selection.py`` measures what is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synthvlm.selectors.clusters import cluster_centers, nearest_centers, unit_vectors

__all__ = ["Neighbours", "by_embedding", "by_hash", "twins"]

#: Images up to which all are compared with all; then about so many are in a list.
_ALL, _LIST = 4096, 1024
#: Lists that an image is compared with.
_PROBES = 4
#: Better twins of an image that are looked at in a list.
_TWINS = 32
_BLOCK = 2048

Rows = npt.NDArray[np.int64]
Edges = tuple[Rows, Rows]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The better twins of each image, by one measure.

    Attributes:
        same: The best image that is exactly the same by this measure, shape (n,).
        starts: Where the twins of each begin in ``better``; shape (n + 1,). Those of one that is
            the same as a better one are the twins of that.
        better: Images, best first for each.
    """

    same: Rows
    starts: Rows
    better: Rows

    def of(self, row: int) -> Iterator[int]:
        """The better twins of an image."""
        same = int(self.same[row])
        if same != row:
            yield same
        yield from self.better[self.starts[same] : self.starts[same + 1]].tolist()

    def has_any(self) -> npt.NDArray[np.bool_]:
        """Which images have a better twin, shape (n,)."""
        has = np.diff(self.starts)[self.same] > 0
        return np.asarray(has | (self.same != np.arange(len(self.same))))


def twins(rank: Rows, measures: Iterable[Neighbours]) -> Rows:
    """For each image the kept twin for whose sake it is dropped, the best one; -1 if it stays.

    Args:
        rank: Place of each image, best first, 0 to n - 1; shape (n,).
        measures: By which images can be twins.
    """
    measures = list(measures)
    kept_instead = np.full(len(rank), -1)
    has_any = np.zeros(len(rank), bool)
    for measure in measures:
        has_any |= measure.has_any()
    rows = np.flatnonzero(has_any)
    for row in rows[np.argsort(rank[rows])].tolist():
        staying = [
            twin for measure in measures for twin in measure.of(row) if kept_instead[twin] < 0
        ]
        if staying:
            kept_instead[row] = min(staying, key=rank.__getitem__)
    return kept_instead


def by_embedding(
    embeddings: npt.NDArray[np.floating], rank: Rows, max_similarity: float
) -> Neighbours:
    """Twins by cosine similarity above a threshold.

    Args:
        embeddings: Shape (n, d).
        rank: As in ``twins``.
        max_similarity: Above it, two images are twins.
    """
    same = _same(_row_keys(embeddings), rank)
    rows = np.flatnonzero(same == np.arange(len(same)))
    rows = rows[np.argsort(rank[rows])]  # best first, also within every list
    lists = 1 if len(rows) <= _ALL else -(-len(rows) // _LIST)
    centers = cluster_centers(embeddings[rows[:: max(1, len(rows) // (64 * lists))]], lists)
    nearest = nearest_centers(embeddings, centers, _PROBES)[rows]

    def edges() -> Iterator[Edges]:
        for stored, asking in zip(
            _grouped(nearest[:, :1], len(centers)), _grouped(nearest, len(centers)), strict=True
        ):
            vectors = unit_vectors(embeddings[rows[stored]])
            for start in range(0, len(asking), _BLOCK):
                part = asking[start : start + _BLOCK]
                near = unit_vectors(embeddings[rows[part]]) @ vectors.T > max_similarity
                worse, better = _first(near & (stored < part[:, None]))
                yield rows[part[worse]], rows[stored[better]]
                worse, better = _first((near & (stored > part[:, None])).T)
                yield rows[stored[worse]], rows[part[better]]

    return _neighbours(same, edges(), rank)


def by_hash(hashes: npt.NDArray[np.uint64], rank: Rows, max_distance: int) -> Neighbours:
    """Twins by the number of bits in which their hashes differ.

    Args:
        hashes: Of 64 bits, shape (n,).
        rank: As in ``twins``.
        max_distance: Up to it, two images are twins.
    """
    same = _same(hashes, rank)
    rows = np.flatnonzero(same == np.arange(len(same)))
    rows = rows[np.argsort(rank[rows])]
    values = hashes[rows]
    # Where at most d bits differ, one of d + 1 bands is equal.
    edges_of_bits = np.linspace(0, 64, max_distance + 2).astype(int)

    def edges() -> Iterator[Edges]:
        for low, high in zip(edges_of_bits[:-1].tolist(), edges_of_bits[1:].tolist(), strict=True):
            band = (values >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
            order = np.argsort(band, kind="stable")
            _, starts, sizes = np.unique(band[order], return_index=True, return_counts=True)
            for start, size in zip(
                starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True
            ):
                bucket = order[start : start + size]  # ascending: best first
                for first in range(0, size, _BLOCK):
                    part = bucket[first : first + _BLOCK]
                    distance = np.bitwise_count(values[part][:, None] ^ values[bucket])
                    near = (distance <= max_distance) & (bucket < part[:, None])
                    worse, better = _first(near)
                    yield rows[part[worse]], rows[bucket[better]]

    return _neighbours(same, edges(), rank)


def _grouped(numbers: npt.NDArray[np.int32], count: int) -> list[Rows]:
    """For each number from 0 to ``count`` - 1 the rows that hold it, in ascending order."""
    flat = numbers.reshape(-1)
    order = np.argsort(flat, kind="stable")
    ends = np.searchsorted(flat[order], np.arange(1, count))
    return np.split(order // numbers.shape[1], ends)


def _row_keys(embeddings: npt.NDArray[np.floating]) -> npt.NDArray[np.uint64]:
    """A hash of the bytes of each row."""
    width = embeddings.shape[1] * embeddings.itemsize
    factors = np.random.default_rng(0).integers(0, 2**63, -(-width // 8), np.int64)
    factors = factors.astype(np.uint64) * np.uint64(2) + np.uint64(1)
    keys = np.empty(len(embeddings), np.uint64)
    for start in range(0, len(embeddings), _BLOCK):
        block = np.ascontiguousarray(embeddings[start : start + _BLOCK])
        words = np.zeros((len(block), 8 * len(factors)), np.uint8)
        words[:, :width] = block.view(np.uint8).reshape(len(block), width)
        mixed = words.view(np.uint64) * factors
        keys[start : start + len(block)] = (mixed ^ (mixed >> np.uint64(29))).sum(axis=1)
    return keys


def _same(keys: npt.NDArray[np.uint64], rank: Rows) -> Rows:
    """For each row the best one with an equal key."""
    order = np.lexsort((rank, keys))
    is_first = np.append(True, keys[order][1:] != keys[order][:-1])[: len(keys)]
    same = np.empty(len(keys), np.int64)
    same[order] = order[np.flatnonzero(is_first)[np.cumsum(is_first) - 1]]
    return same


def _first(mask: npt.NDArray[np.bool_]) -> Edges:
    """Row and column of the first ``_TWINS`` true places of each row."""
    rows = np.flatnonzero(mask.any(axis=1))
    some = mask[rows]
    places, columns = np.nonzero(some & (np.cumsum(some, axis=1, dtype=np.int32) <= _TWINS))
    return rows[places], columns


def _neighbours(same: Rows, edges: Iterator[Edges], rank: Rows) -> Neighbours:
    parts = list(edges)
    empty = np.zeros(0, np.int64)
    worse = np.concatenate([empty, *(a for a, _ in parts)])
    better = np.concatenate([empty, *(b for _, b in parts)])
    order = np.lexsort((rank[better], worse))
    starts = np.searchsorted(worse[order], np.arange(len(same) + 1))
    return Neighbours(same, starts, better[order])
