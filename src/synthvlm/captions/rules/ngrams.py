"""n-gram repetition: rows that may repeat an n-gram are found by hashing, then counted exactly.

Equal n-grams have equal hashes, so a row whose hashes all differ repeats nothing. The few other
rows are counted on the n-grams themselves; a collision of hashes therefore costs time, never
exactness.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isqrt

import numpy as np
import numpy.typing as npt

__all__ = ["BASE", "mix", "rows_with_repeats", "top_repetition", "total_repetition"]

#: Odd (hence invertible modulo 2**64) base of the polynomial hashes.
BASE = 0x9E3779B97F4A7C15
#: The same for hashes of n-grams, which are short: they only have to differ within a row.
_SHORT_BASE = 0x9E3779B1


def rows_with_repeats(
    symbols: npt.NDArray[np.integer], starts: npt.NDArray[np.int64], n: int
) -> list[int]:
    """Rows that may hold an n-gram twice: all that do, and rarely one that does not.

    Args:
        symbols: The symbols (characters or word hashes) of all rows, one row after another.
        starts: Where each row starts in ``symbols``, with the end of the last one; shape
            (rows + 1,), not decreasing.
        n: Length of an n-gram, at least 1.
    """
    hashes = _ngram_hashes(symbols, n)
    if not len(hashes):
        return []
    # The key is the row and what bits of the hash remain, so that one flat sort serves all rows.
    # An n-gram that runs over the end of its row hardly ever equals another one of that row.
    rows = np.arange(len(starts) - 1, dtype=np.uint32)
    bits = max(len(rows) - 1, 1).bit_length()
    hashes >>= np.uint32(bits)
    hashes |= np.repeat(rows << np.uint32(32 - bits), np.diff(starts))[: len(hashes)]
    hashes.sort()
    repeated = hashes[1:][hashes[1:] == hashes[:-1]] >> np.uint32(32 - bits)
    row_numbers: list[int] = np.unique(repeated).tolist()
    return row_numbers


def _ngram_hashes(symbols: npt.NDArray[np.integer], n: int) -> npt.NDArray[np.uint32]:
    """Hash of the n symbols from each position on, shape (max(0, len(symbols) - n + 1),)."""
    # By doubling: a hash of 2k symbols is made of two hashes of k symbols; the binary digits of n
    # say how to put the length together.
    single: npt.NDArray[np.uint32] = symbols.astype(np.uint32)
    hashes, length = single * np.uint32(_SHORT_BASE), 1
    for digit in bin(n)[3:]:
        hashes = _join(hashes, hashes[length:], length)
        length *= 2
        if digit == "1":
            hashes = _join(hashes, single[length:], 1)
            length += 1
    # The high bits are used; let every symbol reach them.
    hashes ^= hashes >> np.uint32(16)
    hashes *= np.uint32(_SHORT_BASE)
    return hashes


def mix(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Let every bit of the hashes reach their high bits, in place."""
    hashes ^= hashes >> np.uint64(32)
    hashes *= np.uint64(BASE)
    return hashes


def _join(
    left: npt.NDArray[np.uint32], right: npt.NDArray[np.uint32], length: int
) -> npt.NDArray[np.uint32]:
    """Hashes of concatenations, where the right-hand parts are ``length`` symbols long."""
    size = min(len(left), len(right))
    result: npt.NDArray[np.uint32] = left[:size] * np.uint32(pow(_SHORT_BASE, length, 2**32))
    result += right[:size]
    return result


def top_repetition(ngrams: Sequence[str]) -> float:
    """Share of the most frequent n-grams: the measure of character repetition.

    With d distinct n-grams, u of them seen once, and r = min(floor(sqrt(d)), d - u), it is the
    sum of the r highest frequencies over the number of n-grams; 0 where there is none.
    """
    counts = Counter(ngrams).values()
    repeated = sorted((count for count in counts if count > 1), reverse=True)
    top = min(isqrt(len(counts)), len(repeated))
    return sum(repeated[:top]) / len(ngrams) if ngrams else 0.0


def total_repetition(ngrams: Sequence[str]) -> float:
    """Share of n-grams seen more than once: the measure of word repetition."""
    repeated = sum(count for count in Counter(ngrams).values() if count > 1)
    return repeated / len(ngrams) if ngrams else 0.0
