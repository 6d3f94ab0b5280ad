"""Near-duplicate captions: found by MinHash-LSH, decided by their exact similarity.

The similarity of two captions is the Jaccard similarity of their sets of n-grams: their tokens
(``TextBatch.tokens``) and the pairs of adjacent ones. A token is a word, a number or a symbol, and
in a script that is written without spaces a letter. Case, punctuation and white space do not count.
So that long captions may not differ in more than short ones, no more n-grams may differ than the
threshold allows in ``LONGEST`` of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
import numpy.typing as npt

from synthvlm.captions.duplicates.minhash import RECALL, Buckets, band_keys, bands_for, signatures
from synthvlm.captions.rules.batch import TextBatch, Words
from synthvlm.captions.rules.ngrams import BASE, mix

__all__ = [
    "LONGEST",
    "THRESHOLD",
    "NearDuplicates",
    "is_similar",
    "near_duplicates",
    "ngram_hashes",
]

#: What it finds and what it spares: docs/curation.md, by benchmarks/near_duplicates.py.
THRESHOLD = 0.95

#: N-grams of a caption of some 30 words.
LONGEST = 64

#: Captions decided at a time; 8 bits number them.
_BLOCK = 256
#: Characters read at a time, if those captions have more.
_BATCH_CHARS = 1 << 18
#: Bits of a caption's sketch, at most 256.
_SKETCH_BITS = 256

Hashes = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Which captions are dropped.

    Attributes:
        twins: For the position of each dropped caption that of its twin, the first kept one that
            was found to be similar.
        refused: Kept captions that a full bucket did not take, see ``near_duplicates``.
    """

    twins: dict[int, int]
    refused: int


def near_duplicates(
    texts: Iterable[Sequence[str]], *, threshold: float = THRESHOLD, recall: float = RECALL
) -> NearDuplicates:
    """Find the captions that are nearly equal to an earlier one that stays.

    The captions are gone through in their order. One is dropped if its exact similarity to an
    earlier kept one, among those that share a band of its MinHash signature (``bands_for``), is
    at least the threshold. So the twin of a dropped caption is kept and similar, and the outcome
    depends on nothing but the texts and their order. A caption without a token is never dropped.

    The time is linear in the number of captions, whatever the texts: a caption is compared with
    kept ones only, and of each bucket (the captions with an equal band) with the first
    ``minhash.FULL`` of them, besides those that it is decided together with, 256 at a time. A
    near-duplicate of a kept caption that a full bucket did not take is found through another
    band, or stays.

    Memory: 4 bytes per band (8 at the default threshold, 25 at 0.6), 8 per word and 50 more for
    each caption, and up to 12 per band for those that share buckets.

    Args:
        texts: The captions, in batches of any size; read once.
        threshold: Jaccard similarity (0 < threshold <= 1) from which on a caption is dropped.
        recall: Probability (0 < recall < 1) that two captions whose similarity is just the
            threshold are compared, see ``bands_for``.

    Raises:
        ValueError: The threshold is out of range.
    """
    bands, rows = bands_for(threshold, recall)
    captions = _Captions(threshold)
    keys = [np.zeros((0, bands), np.uint32)]
    for batch in _batches(texts):
        words = TextBatch(batch).tokens
        hashes, starts = ngram_hashes(words)
        captions.add(words, hashes, starts)
        keys.append(band_keys(signatures(hashes, starts), bands, rows))
    captions.finish()
    buckets = Buckets(np.concatenate(keys))
    del keys
    twins: dict[int, int] = {}
    for first in range(0, len(captions), _BLOCK):
        block = first + np.flatnonzero(captions.sizes[first : first + _BLOCK])
        for pairs in (buckets.kept_beside, buckets.among):
            dropped = captions.compare(*pairs(block), twins)
            block = block[~np.isin(block, dropped)]
        buckets.keep(block)
    return NearDuplicates(twins, buckets.refused)


def is_similar(common: int, union: int, threshold: float) -> bool:
    """Whether two sets are similar, by the number of elements of their intersection and union."""
    most = (1 - threshold) * LONGEST + 1e-9
    return common / union >= threshold and union - common <= most


def ngram_hashes(words: Words) -> tuple[Hashes, Positions]:
    """Hashes of the words and of the pairs of adjacent words of each text.

    Returns:
        Two hashes for each word, its own and that of the pair that it begins (again its own for
        the last word of a text), shape (2 * words,); and where each text starts in them, with the
        end of the last one, shape (texts + 1,).
    """
    result = np.empty((len(words.hashes), 2), np.uint64)
    result[:, 0] = words.hashes
    result[:-1, 1] = mix(words.hashes[:-1] * np.uint64(BASE) + words.hashes[1:])
    last = words.starts[1:][np.diff(words.starts) > 0] - 1
    result[last, 1] = words.hashes[last]
    return result.ravel(), 2 * words.starts


class _Captions:
    """What is needed to compare any two captions, in compact arrays.

    Attributes:
        sizes: Of each caption's set of n-grams, shape (captions,), once all are there.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._parts: list[tuple[npt.NDArray[np.generic], ...]] = []

    def __len__(self) -> int:
        return len(self.sizes)

    def add(self, words: Words, hashes: Hashes, starts: Positions) -> None:
        """Add a batch, with its ``ngram_hashes``."""
        count = len(starts) - 1
        owners = np.repeat(np.arange(count, dtype=np.uint64), np.diff(starts))
        distinct = np.unique(owners << np.uint64(56) | hashes >> np.uint64(8))
        owners = distinct >> np.uint64(56)
        sketches = np.zeros((count, _SKETCH_BITS), np.bool_)
        sketches[owners, distinct % np.uint64(_SKETCH_BITS)] = True
        self._parts.append(
            (
                words.hashes,
                np.diff(words.starts).astype(np.int32),
                np.bincount(owners.astype(np.int64), minlength=count).astype(np.int32),
                np.packbits(sketches, axis=1).view(np.uint64),
            )
        )

    def finish(self) -> None:
        """Put the batches together."""
        empty = (
            np.zeros(0, np.uint64),
            np.zeros(0, np.int32),
            np.zeros(0, np.int32),
            np.zeros((0, _SKETCH_BITS // 64), np.uint64),
        )
        words, counts, sizes, sketches = zip(empty, *self._parts, strict=True)
        self._parts.clear()
        self._words = np.concatenate(words)
        self._starts = np.concatenate([[0], np.cumsum(np.concatenate(counts), dtype=np.int64)])
        self.sizes = np.concatenate(sizes)
        self._sketches = np.concatenate(sketches)

    def compare(self, later: Positions, earlier: Positions, twins: dict[int, int]) -> list[int]:
        """Drop the later caption of each similar pair whose earlier one stays.

        Args:
            later: In each pair the later caption.
            earlier: The earlier one.
            twins: The captions dropped so far, to which this adds.

        Returns:
            The captions that were dropped.
        """
        # Sets of J >= t differ in at most (1 - t) / (1 + t) of the sum of their sizes, and a bit
        # that one sketch has alone stands for an n-gram that one set has alone.
        most = (1 - self._threshold) / (1 + self._threshold) + 1e-9
        differing = np.bitwise_count(self._sketches[later] ^ self._sketches[earlier]).sum(axis=1)
        close = differing <= most * (self.sizes[later] + self.sizes[earlier])
        # By the later caption, then by the earlier one; once each, however many bands agree.
        pairs = np.unique(later[close] << 32 | earlier[close])
        dropped, sets = [], {}
        for pair in pairs.tolist():
            one, other = pair >> 32, pair & 0xFFFFFFFF
            if one in twins or other in twins:
                continue
            for position in (one, other):
                if position not in sets:
                    sets[position] = self._ngrams(position)
            common = len(sets[one] & sets[other])
            union = len(sets[one]) + len(sets[other]) - common
            if is_similar(common, union, self._threshold):
                twins[one] = other
                dropped.append(one)
        return dropped

    def _ngrams(self, position: int) -> frozenset[object]:
        start, end = self._starts[position : position + 2]
        words = self._words[start:end].tolist()
        return frozenset([*words, *pairwise(words)])


def _batches(texts: Iterable[Sequence[str]]) -> Iterator[list[str]]:
    """At most ``_BLOCK`` texts at a time, fewer if they are long."""
    batch: list[str] = []
    characters = 0
    for text in chain.from_iterable(texts):
        batch.append(text)
        characters += len(text)
        if len(batch) == _BLOCK or characters >= _BATCH_CHARS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
