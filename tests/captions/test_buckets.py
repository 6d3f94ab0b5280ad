"""Buckets: who is asked about whom, and what a full one does; by hand."""

from __future__ import annotations

import numpy as np

from synthvlm.captions.duplicates.minhash import FULL, Buckets


def pairs(found: tuple[np.ndarray, np.ndarray]) -> list[tuple[int, int]]:
    return list(zip(*(side.tolist() for side in found), strict=True))


def captions(*positions: int) -> np.ndarray:
    return np.array(positions, np.int64)


def test_captions_meet_in_shared_buckets_only() -> None:
    # Band 0: 0, 2 and 4 share 7; band 1: 0 and 4 share 5, 1 and 3 share 7, no bucket of band 0.
    keys = np.array([[7, 5], [1, 7], [7, 2], [3, 7], [7, 5]], np.uint32)
    buckets = Buckets(keys)
    assert pairs(buckets.among(np.arange(5))) == [(2, 0), (3, 1), (4, 0), (4, 2)]
    assert pairs(buckets.among(captions(1, 2, 4))) == [(4, 2)]
    assert pairs(buckets.kept_beside(captions(2, 3))) == []
    buckets.keep(captions(0, 1))
    assert sorted(pairs(buckets.kept_beside(captions(2, 3, 4)))) == [
        (2, 0), (3, 1), (4, 0), (4, 0)
    ]  # fmt: skip
    buckets.keep(captions(2))
    assert sorted(pairs(buckets.kept_beside(captions(4)))) == [(4, 0), (4, 0), (4, 2)]
    assert buckets.refused == 0


def test_keys_that_look_like_no_bucket_are_buckets() -> None:
    # The last two are alone, each with its key.
    keys = np.array([[2**32 - 1], [2**32 - 1], [2**32 - 2], [2**32 - 2], [0], [1]], np.uint32)
    assert pairs(Buckets(keys).among(np.arange(6))) == [(1, 0), (3, 2)]


def test_a_full_bucket_takes_no_more_and_counts_them() -> None:
    # All share band 0; band 1 is in groups of two.
    count = FULL + 36
    keys = np.stack([np.zeros(count), np.arange(count) // 2], axis=1).astype(np.uint32)
    buckets = Buckets(keys)
    for first in range(0, count, 20):
        buckets.keep(np.arange(first, min(first + 20, count)))
    assert buckets.refused == 36
    last = count - 1
    beside = [earlier for _, earlier in pairs(buckets.kept_beside(captions(last)))]
    assert sorted(beside) == [*range(FULL), last - 1, last]


def test_no_captions() -> None:
    buckets = Buckets(np.zeros((0, 3), np.uint32))
    buckets.keep(captions())
    assert pairs(buckets.kept_beside(captions())) == []
    assert pairs(buckets.among(captions())) == []
