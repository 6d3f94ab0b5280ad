"""MinHash signatures of sets, and the bands and buckets of locality-sensitive hashing (LSH).

A. Broder, "On the resemblance and containment of documents" (1997); the bands are those of
J. Leskovec, A. Rajaraman, J. Ullman, "Mining of Massive Datasets", chapter 3.
"""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
import numpy.typing as npt

from synthvlm.captions.rules.ngrams import mix

__all__ = ["FULL", "PERMUTATIONS", "RECALL", "Buckets", "band_keys", "bands_for", "signatures"]

#: Length of a signature.
PERMUTATIONS = 128

#: Probability that two captions whose similarity is just the threshold share a band.
RECALL = 0.85

#: Rows of signatures made at a time: they stay within a core's cache.
_BLOCK_ROWS = 256

Hashes = npt.NDArray[np.uint64]
Starts = npt.NDArray[np.int64]
Signatures = npt.NDArray[np.uint32]


def signatures(hashes: Hashes, starts: Starts) -> Signatures:
    """MinHash signatures of sets; the share of equal values estimates the Jaccard similarity.

    The same set has the same signature in every batch, process and platform.

    Args:
        hashes: The elements of all sets, one set after another; an element may be repeated.
        starts: Where each set starts in ``hashes``, with the end of the last one; shape (n + 1,).

    Returns:
        uint32, shape (n, PERMUTATIONS); all ones for an empty set.
    """
    multipliers, addends = _permutations()
    # An element counts by the 32 best mixed bits of its hash.
    elements = (hashes >> np.uint64(32)).astype(np.uint32)
    counts = np.diff(starts)
    result = np.full((len(counts), PERMUTATIONS), 0xFFFFFFFF, np.uint32)
    scratch = np.empty((_BLOCK_ROWS, PERMUTATIONS), np.uint32)
    # Largest sets first, so that those with a k-th element are the first ones of their block.
    order = np.argsort(-counts, kind="stable")
    for first in range(0, len(order), _BLOCK_ROWS):
        rows = order[first : first + _BLOCK_ROWS]
        block = np.full((len(rows), PERMUTATIONS), 0xFFFFFFFF, np.uint32)
        sizes, begins = counts[rows], starts[rows]
        for k in range(sizes[0]):
            have = int(np.searchsorted(-sizes, -k))
            values = scratch[:have]
            np.multiply(elements[begins[:have] + k, None], multipliers, out=values)
            values += addends
            np.minimum(block[:have], values, out=block[:have])
        result[rows] = block
    return result


def bands_for(threshold: float, recall: float = RECALL) -> tuple[int, int]:
    """How many bands of how many values a signature is cut into for a similarity threshold.

    Two sets of similarity s share a band with probability 1 - (1 - s**rows)**bands. Longer bands
    make fewer false candidates; these are the longest ones by which two sets of similarity
    ``threshold`` share a band with probability ``recall``, and more similar ones nearly always.

    Args:
        threshold: Jaccard similarity, above 0 and at most 1.
        recall: Above 0 and below 1; where no bands reach it, they have one value each.

    Returns:
        Number of bands, and of values in each (``rows``).

    Raises:
        ValueError: The threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
    for rows in range(16, 1, -1):
        bands = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** bands >= recall:
            return bands, rows
    return PERMUTATIONS, 1


def band_keys(signatures: Signatures, bands: int, rows: int) -> Signatures:
    """A hash of each band of each signature, uint32, shape (n, bands)."""
    keys = np.zeros((len(signatures), bands), np.uint64)
    values = signatures[:, : bands * rows].reshape(len(signatures), bands, rows)
    for row in range(rows):
        keys ^= values[:, :, row]
        mix(keys)
    return (keys >> np.uint64(32)).astype(np.uint32)


@cache
def _permutations() -> tuple[Signatures, Signatures]:
    """Odd multipliers and addends modulo 2**32, the same ones everywhere."""
    raw = hashlib.shake_128(b"synthvlm minhash").digest(8 * PERMUTATIONS)
    values = np.frombuffer(raw, "<u4").astype(np.uint32)
    return values[0::2] | np.uint32(1), values[1::2]


#: Kept captions with which a bucket is full.
FULL = 64

Positions = npt.NDArray[np.int64]


class Buckets:
    """The kept captions of every bucket that two captions or more fall into.

    Attributes:
        refused: Kept captions that one full bucket or more did not take.
    """

    def __init__(self, keys: npt.NDArray[np.uint32]) -> None:
        """Number the buckets; they hold nothing yet.

        Args:
            keys: Of each caption in each band, shape (captions, bands). Overwritten.
        """
        self.refused = 0
        # The bucket of each caption in each band; -1 where no other caption falls into it.
        self._numbers = keys.view(np.int32)
        sizes = [np.zeros(0, np.int64)]
        for band in range(keys.shape[1]):
            _, number, size = np.unique(keys[:, band], return_inverse=True, return_counts=True)
            shared = size > 1
            self._numbers[:, band] = np.where(shared, np.cumsum(shared) - 1, -1)[number]
            sizes.append(size[shared])
        # Where the buckets of each band, and the places of each bucket, start.
        self._bands = np.cumsum([len(size) for size in sizes], dtype=np.int64)[:-1]
        capacities = np.minimum(np.concatenate(sizes), FULL)
        self._starts = np.cumsum(capacities) - capacities
        self._fill = np.zeros(len(capacities), np.uint8)
        self._kept = np.empty(capacities.sum(), np.int32)

    def kept_beside(self, captions: Positions) -> tuple[Positions, Positions]:
        """Pairs of one of some captions and a kept one, once for each bucket that they share."""
        rows, buckets = self._entries(captions)
        counts = self._fill[buckets].astype(np.int64)
        places = np.repeat(self._starts[buckets] - (np.cumsum(counts) - counts), counts)
        places += np.arange(len(places))
        return captions[np.repeat(rows, counts)], self._kept[places].astype(np.int64)

    def among(self, captions: Positions) -> tuple[Positions, Positions]:
        """Pairs of a later and an earlier one of some captions that share a bucket, once each.

        Args:
            captions: In ascending order; their number squared is what this takes in bytes.
        """
        numbers = self._numbers[captions].T
        together = np.zeros((len(captions), len(captions)), np.bool_)
        for band in numbers:
            # -1 is no bucket, and equals nothing.
            together |= band[:, None] == np.where(band < 0, -2, band)
        later, earlier = np.nonzero(np.tril(together, -1))
        return captions[later], captions[earlier]

    def keep(self, captions: Positions) -> None:
        """Put captions, in ascending order, into their buckets, but for full ones."""
        rows, buckets = self._entries(captions)
        order = np.argsort(buckets, kind="stable")
        rows, buckets = rows[order], buckets[order]
        is_first = np.diff(buckets, prepend=-1) != 0
        rank = np.arange(len(buckets)) - np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
        place = self._fill[buckets] + rank
        taken = place < FULL
        self.refused += len(np.unique(rows[~taken]))
        rows, buckets, place = rows[taken], buckets[taken], place[taken]
        self._kept[self._starts[buckets] + place] = captions[rows]
        np.add.at(self._fill, buckets, 1)

    def _entries(self, captions: Positions) -> tuple[Positions, Positions]:
        """The buckets of some captions: the row in ``captions``, the bucket; by row."""
        numbers = self._numbers[captions]
        rows, bands = np.nonzero(numbers >= 0)
        return rows, self._bands[bands] + numbers[rows, bands]
