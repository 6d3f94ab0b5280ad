"""Near-duplicate images: which are twins, and which of them stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthvlm.selectors import near_duplicates
from synthvlm.selectors.near_duplicates import by_embedding, by_hash, twins


def plain_twins(rank: np.ndarray, are_twins: np.ndarray) -> list[int]:
    """Best first, each compared with all kept ones."""
    instead = np.full(len(rank), -1)
    kept: list[int] = []
    for row in np.argsort(rank).tolist():
        found = [other for other in kept if are_twins[row, other]]
        if found:
            instead[row] = found[0]
        else:
            kept.append(row)
    return instead.tolist()


def pictures(count: int, originals: int, noise: float, seed: int) -> np.ndarray:
    """Unit vectors near some originals; float16 as they are stored."""
    rng = np.random.default_rng(seed)
    of = rng.standard_normal((originals, 32))[rng.integers(0, originals, count)]
    vectors = of + noise * rng.standard_normal((count, 32))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float16)


def cosines(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float32)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide @ wide.T)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.12])
def test_of_few_images_all_are_compared(noise: float) -> None:
    vectors = pictures(300, 60, noise, seed=1)
    rank = np.random.default_rng(2).permutation(300)
    found = twins(rank, [by_embedding(vectors, rank, 0.98)])
    assert found.tolist() == plain_twins(rank, cosines(vectors) > 0.98)
    assert 0 < (found >= 0).sum() < 300


def test_of_many_images_nearly_all_twins_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "_ALL", 100)
    monkeypatch.setattr(near_duplicates, "_LIST", 50)
    vectors = pictures(1500, 700, 0.08, seed=3)
    rank = np.random.default_rng(4).permutation(1500)
    found = twins(rank, [by_embedding(vectors, rank, 0.98)])
    similar = cosines(vectors)
    dropped = np.flatnonzero(found >= 0)
    assert (similar[dropped, found[dropped]] > 0.98).all()
    assert (found[found[dropped]] < 0).all(), "a twin that was kept is named"
    assert (rank[found[dropped]] < rank[dropped]).all(), "the better one stays"
    expected = np.array(plain_twins(rank, similar > 0.98)) >= 0
    assert expected.sum() > 300
    assert (found >= 0).sum() >= 0.98 * expected.sum()


HASHES = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12)


@settings(max_examples=50)
@given(HASHES, st.lists(st.tuples(st.integers(0, 11), st.sets(st.integers(0, 63), max_size=6)),
                        max_size=12), st.integers(0, 7), st.randoms())  # fmt: skip
def test_no_twin_by_hash_is_missed(
    originals: list[int], copies: list[tuple[int, set[int]]], distance: int, random: object
) -> None:
    values = list(originals)
    for of, bits in copies:
        value = originals[of % len(originals)]
        for bit in bits:
            value ^= 1 << bit
        values.append(value)
    hashes = np.array(values, np.uint64)
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    rank = np.array(order)
    apart = np.bitwise_count(hashes[:, None] ^ hashes)
    found = twins(rank, [by_hash(hashes, rank, distance)])
    assert found.tolist() == plain_twins(rank, apart <= distance)


def test_twins_by_either_measure() -> None:
    """0 and 1 have equal embeddings, 1 and 2 equal hashes, 3 is near 2 by embedding."""
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0.1, 1]], np.float16)
    hashes = np.array([1, 0xFF00, 0xFF00, 0xFFFF0000FF], np.uint64)

    def found(*rank: int) -> list[int]:
        places = np.array(rank)
        measures = [by_embedding(vectors, places, 0.98), by_hash(hashes, places, 1)]
        return twins(places, measures).tolist()

    assert found(0, 1, 2, 3) == [-1, 0, -1, 2]
    assert found(1, 0, 2, 3) == [1, -1, 1, -1]
    assert found(3, 2, 1, 0) == [1, -1, 3, -1]  # 1 stays: the one with its hash was dropped
