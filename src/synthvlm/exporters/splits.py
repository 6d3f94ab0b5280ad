"""The splits of a data set: which pairs are held out, and records of parts by their split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from synthvlm.data import fingerprint
from synthvlm.exporters.base import ExportedPair, Split

__all__ = ["by_split", "peeked", "record_of", "split_of"]

_WORD = re.compile(r"\w+")
#: Begins the record of a part that is held out; earlier versions had none of these.
_HELD_OUT = b"validation\n"


def split_of(caption: str, validation_share: float) -> Split:
    """The split of a pair by itself, by a hash of its caption's longest word.

    So captions that differ in another word are mostly in one split. Of words of one length it is
    that with the smallest hash; case does not count.

    Args:
        caption: The caption.
        validation_share: The share that is held out, 0 to 1; of few captions it is another.
    """
    if not validation_share:
        return "train"
    words = set(_WORD.findall(caption.lower())) or {caption}
    length = max(map(len, words))
    longest = [word for word in words if len(word) == length]
    word = min(longest, key=lambda word: fingerprint("word", word))
    place = int(fingerprint("split", word)[:13], 16) / 16**13
    return "validation" if place < validation_share else "train"


def peeked(pairs: Iterable[ExportedPair]) -> tuple[Split, Iterator[ExportedPair]]:
    """The split of a part, which is that of its first pair, and all of its pairs."""
    left = iter(pairs)
    first = next(left, None)
    if first is None:
        return "train", iter(())

    def all_pairs() -> Iterator[ExportedPair]:
        yield first
        yield from left

    return first.split, all_pairs()


def record_of(split: Split, content: bytes) -> bytes:
    """What ``write_part`` returns of a part, for ``by_split``."""
    return _HELD_OUT + content if split == "validation" else content


def by_split(parts: Iterable[bytes]) -> Iterator[tuple[Split, Iterator[bytes]]]:
    """The records of parts that have any content, by split, a record in memory at a time."""
    held_out: Split = "validation"
    for split, records in groupby(
        filter(None, parts), lambda part: held_out if part.startswith(_HELD_OUT) else "train"
    ):
        yield split, (record.removeprefix(_HELD_OUT) for record in records)
