"""The buckets of LSH: captions with an equal band, and the first of them that were kept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["FULL", "Buckets"]

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
