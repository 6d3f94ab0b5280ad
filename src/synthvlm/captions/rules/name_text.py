"""The words of a text as names are looked up: folded to lower case without accents."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

__all__ = ["Word", "fold", "folded_words", "split_words"]

#: Characters that decomposition leaves as they are; letters that some write for others.
_LETTERS = str.maketrans(
    {
        "\xf8": "o",
        "\u0142": "l",
        "\u0111": "d",
        "\u0131": "i",
        "\xdf": "ss",
        "\xe6": "ae",
        "\u0153": "oe",
        # Arabic and Persian: yeh, kaf, teh marbuta; what only lengthens a word.
        "\u064a": "\u06cc",
        "\u0649": "\u06cc",
        "\u0643": "\u06a9",
        "\u0629": "\u0647",
        "\u0640": "",
        # Zero-width joiners of Indic scripts and Persian; Greek final sigma.
        "\u200c": "",
        "\u200d": "",
        "\u03c2": "\u03c3",
    }
)


def _marks() -> str:
    """The marks that belong to letters, as part of a character class: accents, vowel signs."""
    codes = (code for code in range(0x300, 0x1B00) if unicodedata.category(chr(code))[0] == "M")
    return "".join(map(chr, codes)) + "\u200c\u200d"


_LETTER = rf"(?:[^\W\d_]|[{_marks()}])"
_WORD = re.compile(rf"[^\W\d_]{_LETTER}*(?:['\u2019\u05f3-][^\W\d_]{_LETTER}*)*")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text.

    Attributes:
        start: Where it begins in the text.
        end: Where it ends (exclusive), without a possessive.
        key: Folded; of a double name the first part.
        cased: Whether its script has capitals.
        capital: Whether it begins with one.
        letter: Whether it is a capital letter on its own, with a point.
        double: Whether it is a double name.
    """

    start: int
    end: int
    key: str
    cased: bool
    capital: bool
    letter: bool
    double: bool


def split_words(text: str) -> list[Word]:
    """The words of a text, in order."""
    words = []
    for match in _WORD.finditer(text):
        word = _without_possessive(match[0])
        end = match.start() + len(word)
        capital = word[0].isupper()
        letter = capital and len(word) == 1 and text[end : end + 2].lstrip(" ").startswith(".")
        key, dash, _ = fold(word).partition("-")
        cased = word[0].lower() != word[0].upper()
        words.append(Word(match.start(), end, key, cased, capital, letter, bool(dash)))
    return words


def folded_words(text: str) -> list[str]:
    """The words of a text in lower case, without accents and possessives."""
    return [fold(_without_possessive(word)) for word in _WORD.findall(text)]


def fold(word: str) -> str:
    """Lower case without accents."""
    key = word.lower().replace("\u2019", "'")
    if not key.isascii():
        parts = unicodedata.normalize("NFD", key)
        letters = (char for char in parts if not unicodedata.combining(char))
        key = "".join(letters).translate(_LETTERS)
    return key


def _without_possessive(word: str) -> str:
    return word[:-2] if word[-2:] in {"'s", "\u2019s", "'S", "\u2019S"} else word
