"""Many captions as one array of characters and one array of words, shared by the rules.

One table lookup gives all that the rules ask of a character, its class bits.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from synthvlm.captions.rules.ngrams import BASE, mix
from synthvlm.captions.rules.word_files import entries, package_text

__all__ = [
    "ALNUM",
    "SEPARATOR",
    "SPECIAL",
    "UNSPACED",
    "TextBatch",
    "WordTable",
    "Words",
    "ascii_classes",
    "classify",
    "code_points",
    "special_characters",
]

#: Begin and end (exclusive) of each word.
Bounds = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

#: Bits of a character's class.
ALNUM = 1  # Python's ``str.isalnum``
SPECIAL = 2  # in ``data/special_characters.txt``
SEPARATOR = 4  # separates words: space, tab, newline
UNSPACED = 8  # of a script that is written without spaces between words
SYMBOL = 16  # an emoji, an arrow, a sign of currency or of mathematics, one of ``#%&@``
HYPHEN = 32  # "-"; before a number, and behind none, it is a minus sign

#: Code points of scripts without spaces: first and last one of each range.
_UNSPACED_RANGES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x109F),  # Tibetan, Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # CJK radicals
    (0x3005, 0x3007),
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3100, 0x312F),  # Bopomofo
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),  # CJK ideographs
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
    (0x20000, 0x3FFFF),
)

_CODE_POINTS = 0x110000
#: Powers that are computed once; as many as a batch of captions has characters.
_KEPT_POWERS = 1 << 17


@cache
def special_characters() -> frozenset[int]:
    """The code points that count as special characters."""
    result: set[int] = set()
    for line in entries(package_text("special_characters.txt")):
        for item in line.split():
            first, _, last = item.partition("-")
            result.update(range(int(first, 16), int(last or first, 16) + 1))
    return frozenset(result)


@cache
def _classes() -> npt.NDArray[np.uint8]:
    """Class bits of every code point, shape (0x110000,)."""
    # numpy's string predicate calls Python's own, without a Python loop over a million characters.
    every = np.arange(_CODE_POINTS, dtype=np.uint32).view("U1")
    table = np.strings.isalnum(every).astype(np.uint8) * np.uint8(ALNUM)
    table[list(special_characters())] |= SPECIAL
    table[[ord(c) for c in " \t\n"]] |= SEPARATOR
    for first, last in _UNSPACED_RANGES:
        table[first : last + 1] |= UNSPACED
    for code in special_characters():
        if _is_symbol(chr(code)):
            table[code] |= SYMBOL
    table[ord("-")] |= HYPHEN
    return table


def _is_symbol(character: str) -> bool:
    return character in "#%&@" or unicodedata.category(character) in ("Sc", "Sm", "So")


@cache
def ascii_classes() -> bytes:
    """Class bits of the 256 byte values, for ``bytes.translate``; zero from 128 on."""
    table = bytearray(256)
    for code in range(128):
        table[code] = ALNUM * chr(code).isalnum() | SPECIAL * (code in special_characters())
        table[code] |= SYMBOL * (code in special_characters() and _is_symbol(chr(code)))
    for char in b" \t\n":
        table[char] |= SEPARATOR
    table[ord("-")] |= HYPHEN
    return bytes(table)


def code_points(text: str) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint32]:
    """The code points of a text, lone surrogates included: uint8 if all are ASCII, else uint32."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def classify(text: str) -> npt.NDArray[np.uint8]:
    """The class bits of each character of a text, shape (len(text),)."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii").translate(ascii_classes()), np.uint8)
    return _classes()[code_points(text)]


@dataclass(frozen=True, slots=True)
class Words:
    """The refined words of a batch: lower case, special characters stripped, none empty.

    Attributes:
        text: The lower-cased texts, one after another.
        begins: Where each word begins in ``text``, shape (words,).
        ends: Where each word ends (exclusive) in ``text``, shape (words,).
        hashes: Hash of each word, equal for equal words of any batch, shape (words,).
        starts: Number of the first word of each text, and the number of all words; shape
            (texts + 1,).
    """

    text: str
    begins: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]
    starts: npt.NDArray[np.int64]

    def word(self, number: int) -> str:
        """The word of that number."""
        return self.text[self.begins[number] : self.ends[number]]

    def of(self, row: int) -> list[str]:
        """The words of one text."""
        return [self.word(number) for number in range(self.starts[row], self.starts[row + 1])]


class TextBatch:
    """Texts to measure, and what several rules need of them, computed once when first asked for.

    Any string is accepted, lone surrogates and NUL included. The arrays take about 100 bytes per
    character; ``method.measure`` cuts any number of captions into batches of bounded size.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        """Hold the texts; nothing is computed yet."""
        self.texts = texts

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.texts)

    @cached_property
    def joined(self) -> str:
        """The texts one after another, each followed by a newline, which ends its last word."""
        return "\n".join([*self.texts, ""])

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Characters of each text, shape (n,)."""
        return np.fromiter(map(len, self.texts), np.int64, len(self.texts))

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where each text starts in ``joined``, and the length of ``joined``; shape (n + 1,)."""
        return _starts(self.lengths + 1)

    @cached_property
    def code_points(self) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint32]:
        """Code points of ``joined``."""
        return code_points(self.joined)

    @cached_property
    def classes(self) -> npt.NDArray[np.uint8]:
        """Class bits of the characters of ``joined``: ``ALNUM``, ``SPECIAL``, ``SEPARATOR``."""
        return classify(self.joined)

    def share(self, class_bit: int) -> npt.NDArray[np.float64]:
        """Characters of a class over all characters of each text, 0 if empty; shape (n,)."""
        if not len(self):
            return np.zeros(0)
        members = ((self.classes & class_bit) != 0).view(np.uint8)
        # Bytes are added up without a conversion, and hold the counts of short texts.
        narrow = np.uint8 if self.lengths.max() < 255 else np.int64
        counts = np.add.reduceat(members, self.starts[:-1], dtype=narrow)
        counts -= members[self.starts[1:] - 1]  # the newline that ends each text
        return counts / np.maximum(self.lengths, 1)

    @cached_property
    def words(self) -> Words:
        """The refined words of all texts."""
        return self._split(_word_bounds)

    @cached_property
    def tokens(self) -> Words:
        """As ``words``, but digits count, and symbols and letters without spaces are words each."""
        return self._split(_token_bounds)

    def _split(self, bounds: Callable[[npt.NDArray[np.uint8]], Bounds]) -> Words:
        # Lower-casing is per word by definition, but looks at no character beyond a space.
        text = self.joined.lower()
        same = len(text) == len(self.joined)
        classes = self.classes if same and text.isascii() else classify(text)
        starts = self.starts
        if not same:
            starts = _starts(np.array([len(t.lower()) + 1 for t in self.texts]))
        begins, ends = bounds(classes)
        symbols = self.code_points if text == self.joined else code_points(text)
        hashes = _word_hashes(symbols, begins, ends)
        return Words(text, begins, ends, hashes, np.searchsorted(begins, starts))


class WordTable:
    """Tells which words of a batch may be among some words: all that are, and a few others.

    It is a table over the upper bits of the hashes, so that nearly all words pass unread.
    """

    def __init__(self, words: Iterable[str], bits: int = 16) -> None:
        """Take words in lower case, and the number of bits."""
        self._shift = np.uint64(64 - bits)
        self._table = np.zeros(1 << bits, np.bool_)
        self._table[self._buckets(TextBatch(sorted(words)).words)] = True

    def suspects(self, words: Words) -> npt.NDArray[np.int64]:
        """The numbers of the words of a batch that may be among them, ascending."""
        return np.flatnonzero(self._table[self._buckets(words)])

    def _buckets(self, words: Words) -> npt.NDArray[np.intp]:
        return (words.hashes >> self._shift).astype(np.intp)


def _starts(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


def _word_bounds(classes: npt.NDArray[np.uint8]) -> Bounds:
    """Begin and end of each word without the special characters at its ends."""
    return _joined_runs(classes, (classes & SPECIAL) == 0)


def _token_bounds(classes: npt.NDArray[np.uint8]) -> Bounds:
    """Begin and end of each token, see ``TextBatch.tokens``."""
    alnum = (classes & ALNUM) != 0
    digit = alnum & ((classes & SPECIAL) != 0)
    minus = (classes & HYPHEN) != 0
    minus[1:] &= ~alnum[:-1]
    minus[:-1] &= digit[1:]
    symbol = ((classes & SYMBOL) != 0) | minus
    ordinary = ((classes & SPECIAL) == 0) | alnum | symbol
    begins, ends = _joined_runs(classes, ordinary)
    unspaced = symbol | (ordinary & ((classes & UNSPACED) != 0))
    if not unspaced.any():
        return begins, ends
    # A word begins and ends around each of these letters as well.
    single = np.flatnonzero(unspaced)
    inside = np.zeros(len(classes) + 1, np.int64)
    inside[begins] += 1
    inside[ends] -= 1
    spaced = (np.cumsum(inside[:-1]) > 0) & ~unspaced
    starts = spaced & ~np.concatenate([[False], spaced[:-1]])
    starts[begins] |= spaced[begins]
    stops = spaced & ~np.concatenate([spaced[1:], [False]])
    stops[ends - 1] |= spaced[ends - 1]
    begins = np.concatenate([np.flatnonzero(starts), single])
    ends = np.concatenate([np.flatnonzero(stops) + 1, single + 1])
    order = np.argsort(begins, kind="stable")
    return begins[order], ends[order]


def _joined_runs(classes: npt.NDArray[np.uint8], ordinary: npt.NDArray[np.bool_]) -> Bounds:
    # Runs of ordinary characters, then joined where no separator lies between two runs.
    padded = np.zeros(len(ordinary) + 2, np.bool_)
    padded[1:-1] = ordinary
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    begins, ends = edges[0::2], edges[1::2]
    if not len(begins):
        return begins, ends
    # Mostly the first character behind a run tells; else all of the gap, which begins with it.
    gaps = np.stack([ends[:-1], begins[1:]], axis=1)
    parted = (classes[gaps[:, 0]] & SEPARATOR) != 0
    unsure = ~parted
    if unsure.any():
        gap_classes = np.bitwise_or.reduceat(classes, gaps[unsure].ravel())[::2]
        parted[unsure] = (gap_classes & SEPARATOR) != 0
    return begins[np.append(True, parted)], ends[np.append(parted, True)]


def _word_hashes(
    symbols: npt.NDArray[np.integer], begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """Polynomial hashes (modulo 2**64) of slices, from prefix sums over all symbols."""
    size = len(symbols)
    prefix = np.zeros(size + 1, np.uint64)
    np.cumsum(symbols * _powers(BASE, size), out=prefix[1:])
    hashes = (prefix[ends] - prefix[begins]) * _powers(pow(BASE, -1, 2**64), size)[begins]
    return mix(hashes)


def _powers(base: int, size: int) -> npt.NDArray[np.uint64]:
    """base**0 .. base**(size - 1) modulo 2**64."""
    if size > _KEPT_POWERS:
        return _computed_powers(base, size)
    return _kept_powers(base)[:size]


@cache
def _kept_powers(base: int) -> npt.NDArray[np.uint64]:
    return _computed_powers(base, _KEPT_POWERS)


def _computed_powers(base: int, size: int) -> npt.NDArray[np.uint64]:
    powers = np.full(size, base, np.uint64)
    powers[:1] = 1
    return np.multiply.accumulate(powers, out=powers)
