"""MinHash signatures and bands: by definition, and as estimates."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from synthvlm.captions.duplicates.minhash import PERMUTATIONS, band_keys, bands_for, signatures

MASK = 2**32 - 1


def by_definition(elements: list[int]) -> list[int]:
    """The smallest a * x + b modulo 2**32 for each permutation, in whole numbers."""
    raw = hashlib.shake_128(b"synthvlm minhash").digest(8 * PERMUTATIONS)
    values = [int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw), 4)]
    pairs = zip(values[0::2], values[1::2], strict=True)
    return [min(((a | 1) * (x >> 32) + b & MASK for x in elements), default=MASK) for a, b in pairs]


def arrays(sets: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    starts = np.cumsum([0, *map(len, sets)])
    return np.array([x for elements in sets for x in elements], np.uint64), starts


def random_hashes(rng: np.random.Generator, count: int) -> list[int]:
    return rng.integers(0, 2**64, count, np.uint64).tolist()


def test_signatures_are_those_of_the_definition_in_any_batch() -> None:
    rng = np.random.default_rng(0)
    sets = [random_hashes(rng, int(rng.integers(0, 12))) for _ in range(600)] + [[]]
    found = signatures(*arrays(sets))
    assert found.dtype == np.uint32
    assert found.tolist() == [by_definition(elements) for elements in sets]
    assert signatures(*arrays(sets[5:9])).tolist() == found[5:9].tolist()
    assert (signatures(*arrays([])).shape) == (0, PERMUTATIONS)


def test_repeated_elements_and_their_order_do_not_count() -> None:
    elements = random_hashes(np.random.default_rng(1), 9)
    one, other = signatures(*arrays([elements, elements[::-1] * 3]))
    assert one.tolist() == other.tolist()


@pytest.mark.parametrize("common", [4, 12, 20])
def test_equal_values_estimate_the_similarity(common: int) -> None:
    rng = np.random.default_rng(common)
    sets = []
    for _ in range(400):
        shared, rest = random_hashes(rng, common), random_hashes(rng, 2 * (24 - common))
        sets += [shared + rest[0::2], shared + rest[1::2]]
    found = signatures(*arrays(sets))
    equal = (found[0::2] == found[1::2]).mean()
    # 400 * 128 draws: a standard error of at most 0.0023 were they independent.
    assert equal == pytest.approx(common / (48 - common), abs=0.012)


def test_bands_are_the_longest_with_the_recall() -> None:
    # 1 - (1 - 0.6**5)**25 = 0.868, 1 - (1 - 0.6**6)**21 = 0.633.
    assert bands_for(0.6) == (25, 5)
    for threshold in (0.05, 0.3, 0.5, 0.7, 0.9):
        bands, rows = bands_for(threshold)
        assert bands == PERMUTATIONS // rows
        assert rows == 1 or 1 - (1 - threshold**rows) ** bands >= 0.85
        longer = 1 - (1 - threshold ** (rows + 1)) ** (PERMUTATIONS // (rows + 1))
        assert rows == 16 or longer < 0.85
    # 0.64**64 = 4e-13 is the probability of a miss with two rows.
    assert bands_for(0.6, recall=1 - 1e-12) == (64, 2)
    assert bands_for(0.6, recall=1 - 1e-13) == (128, 1)
    assert bands_for(1.0) == (8, 16)


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.5, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold must be above 0 and at most 1"):
        bands_for(threshold)


def test_keys_are_equal_where_bands_are() -> None:
    rng = np.random.default_rng(2)
    one = rng.integers(0, 2**32, (1, PERMUTATIONS), np.uint32)
    other = one.copy()
    other[0, 7] += np.uint32(1)
    keys = band_keys(np.concatenate([one, other]), 25, 5)
    assert keys.shape == (2, 25)
    assert np.flatnonzero(keys[0] != keys[1]).tolist() == [7 // 5]
    # The order of the values in a band counts.
    swapped = one.copy()
    swapped[0, [0, 1]] = one[0, [1, 0]]
    assert band_keys(swapped, 25, 5)[0, 0] != keys[0, 0]
