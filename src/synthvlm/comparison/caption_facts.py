"""What the captions of a data set are like, and which of them are sampled; no image is read."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from synthvlm.captions.duplicates.near_duplicates import near_duplicates
from synthvlm.captions.rules.batch import TextBatch
from synthvlm.comparison.data_sets import BadPair
from synthvlm.errors import CaptionSourceError

if TYPE_CHECKING:
    from synthvlm.comparison.data_sets import DataSet
    from synthvlm.progress.display import Progress

__all__ = ["CaptionFacts", "hash_of", "read_caption_facts"]

#: Captions that are measured together.
_BATCH = 256


@dataclass(frozen=True, slots=True)
class CaptionFacts:
    """The captions of a data set.

    Attributes:
        count: Captions.
        words: Words (refined: ``batch.Words``) of each, shape (count,).
        tokens: Tokens of CLIP's text tower of each, without begin and end, shape (count,).
        vocabulary: Distinct words.
        duplicates: Captions whose exact text came before.
        near_duplicates: Captions nearly equal to an earlier one, exact duplicates included.
        order: Positions of all captions by the hash of their ids, shape (count,): the first n are
            the sample of n.
        bad: The records without a usable caption.
    """

    count: int
    words: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    vocabulary: int
    duplicates: int
    near_duplicates: int
    order: npt.NDArray[np.int64]
    bad: tuple[BadPair, ...]


class _Collector:
    """Goes through the captions once; what it saw is in its arrays."""

    def __init__(
        self, count_tokens: Callable[[Sequence[str]], Sequence[int]], progress: Progress
    ) -> None:
        self._count_tokens, self._progress = count_tokens, progress
        self.words, self.tokens = array("q"), array("q")
        self.texts, self.ids = array("Q"), array("Q")
        self.vocabulary: set[int] = set()
        self.bad: list[BadPair] = []

    def batches(self, data_set: DataSet) -> Iterator[list[str]]:
        """The texts, a batch at a time, each measured before it is handed on."""
        texts: list[str] = []
        for entry in data_set.captions():
            if isinstance(entry, BadPair):
                self.bad.append(entry)
                continue
            self.ids.append(hash_of(entry.id))
            texts.append(entry.caption)
            if len(texts) == _BATCH:
                yield self._measured(texts)
                texts = []
        if texts:
            yield self._measured(texts)

    def _measured(self, texts: list[str]) -> list[str]:
        words = TextBatch(texts).words
        self.words.extend(np.diff(words.starts).tolist())
        self.vocabulary.update(np.unique(words.hashes).tolist())
        self.tokens.extend(self._count_tokens(texts))
        self.texts.extend(map(hash_of, texts))
        self._progress.advance(len(texts))
        return texts


def read_caption_facts(
    data_set: DataSet,
    count_tokens: Callable[[Sequence[str]], Sequence[int]],
    progress: Progress,
) -> CaptionFacts:
    """Go through the captions of a data set once.

    Memory grows by about 300 bytes a caption (most of it to find near-duplicates).

    Args:
        data_set: The data set.
        count_tokens: Numbers of tokens of texts.
        progress: Shows captions read.

    Raises:
        CaptionSourceError: No record has a usable caption.
    """
    seen = _Collector(count_tokens, progress)
    near = near_duplicates(seen.batches(data_set))
    count = len(seen.ids)
    if not count:
        first = f"; the first: {seen.bad[0].where}: {seen.bad[0].problem}" if seen.bad else ""
        raise CaptionSourceError(
            f"{data_set.path}: none of {len(seen.bad):,} records is a usable pair{first}"
        )
    texts = np.frombuffer(seen.texts, np.uint64)
    return CaptionFacts(
        count,
        np.array(seen.words, np.int64),
        np.array(seen.tokens, np.int64),
        len(seen.vocabulary),
        count - len(np.unique(texts)),
        len(near.twins),
        np.argsort(np.frombuffer(seen.ids, np.uint64), kind="stable"),
        tuple(seen.bad),
    )


def hash_of(data: str | bytes) -> int:
    """64 bits that tell texts or bytes apart."""
    encoded = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest())
