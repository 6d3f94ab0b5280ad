"""MinHash signatures of captions, and the bands of locality-sensitive hashing (LSH).

A. Broder, "On the resemblance and containment of documents" (1997); the bands are those of
J. Leskovec, A. Rajaraman, J. Ullman, "Mining of Massive Datasets", chapter 3.
"""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
import numpy.typing as npt

from synthvlm.captions.batch import TextBatch
from synthvlm.captions.word_ngrams import ngrams_up_to

__all__ = ["PERMUTATIONS", "band_keys", "bands_for", "minhash", "signatures"]

#: Length of a signature.
PERMUTATIONS = 128

#: Probability that two captions whose similarity is just the threshold share a band.
_RECALL_AT_THRESHOLD = 0.85

#: Rows of signatures made at a time: they stay within a core's cache.
_BLOCK_ROWS = 256

Signatures = npt.NDArray[np.uint32]


def minhash(batch: TextBatch, permutations: int = PERMUTATIONS, ngram: int = 2) -> Signatures:
    """MinHash signatures of the n-grams of 1 to ``ngram`` refined words of each text.

    The share of equal values of two signatures estimates the Jaccard similarity of the two sets
    of n-grams. The same text has the same signature in every batch, process and platform.

    Args:
        batch: The texts.
        permutations: Length of a signature, at least 1.
        ngram: Words of the longest n-grams, at least 1.

    Returns:
        uint32, shape (len(batch), permutations); all ones for a text without a word.
    """
    words = batch.words
    return signatures(*ngrams_up_to(words.hashes, words.starts, ngram), permutations)


def signatures(
    hashes: npt.NDArray[np.uint64], starts: npt.NDArray[np.int64], permutations: int
) -> Signatures:
    """MinHash signatures of sets, given as hashes and where each set starts in them."""
    multipliers, addends = _permutations(permutations)
    # An element counts by the 32 best mixed bits of its hash.
    elements = (hashes >> np.uint64(32)).astype(np.uint32)
    counts = np.diff(starts)
    result = np.full((len(counts), permutations), 0xFFFFFFFF, np.uint32)
    scratch = np.empty((_BLOCK_ROWS, permutations), np.uint32)
    order = np.argsort(-counts, kind="stable")
    for first in range(0, len(order), _BLOCK_ROWS):
        rows = order[first : first + _BLOCK_ROWS]
        block = np.full((len(rows), permutations), 0xFFFFFFFF, np.uint32)
        sizes, begins = counts[rows], starts[rows]
        # The k-th elements of all sets that have one: sets are sorted by size, so a prefix.
        for k in range(sizes[0]):
            have = int(np.searchsorted(-sizes, -k))
            values = scratch[:have]
            np.multiply(elements[begins[:have] + k, None], multipliers, out=values)
            values += addends
            np.minimum(block[:have], values, out=block[:have])
        result[rows] = block
    return result


def bands_for(threshold: float, permutations: int = PERMUTATIONS) -> tuple[int, int]:
    """How many bands of how many values a signature is cut into for a similarity threshold.

    Two sets of similarity s share a band with probability 1 - (1 - s**rows)**bands. Longer bands
    make fewer false candidates; these are the longest ones by which two captions of similarity
    ``threshold`` are still found with probability 0.85, and more similar ones nearly always.

    Args:
        threshold: Jaccard similarity, above 0 and at most 1.
        permutations: Length of a signature.

    Returns:
        Number of bands, and of values in each (``rows``).
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
    for rows in range(min(16, permutations), 1, -1):
        bands = permutations // rows
        if 1 - (1 - threshold**rows) ** bands >= _RECALL_AT_THRESHOLD:
            return bands, rows
    return permutations, 1


def band_keys(signatures: Signatures, bands: int, rows: int) -> Signatures:
    """A hash of each band of each signature, uint32, shape (n, bands)."""
    keys = np.zeros((len(signatures), bands), np.uint64)
    values = signatures[:, : bands * rows].reshape(len(signatures), bands, rows)
    for row in range(rows):
        keys ^= values[:, :, row]
        keys *= np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(32)
    return (keys >> np.uint64(8)).astype(np.uint32)


@cache
def _permutations(count: int) -> tuple[Signatures, Signatures]:
    """Odd multipliers and addends modulo 2**32, the same ones everywhere."""
    if count < 1:
        raise ValueError(f"a signature has at least 1 value, got {count} permutations")
    raw = hashlib.shake_128(b"synthvlm minhash").digest(8 * count)
    values = np.frombuffer(raw, "<u4").astype(np.uint32)
    return values[0::2] | np.uint32(1), values[1::2]
