"""Classes of Unicode code points: one table lookup tells all that the rules ask of a character."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

__all__ = [
    "ALNUM",
    "SEPARATOR",
    "SPECIAL",
    "ascii_classes",
    "classify",
    "code_points",
    "special_characters",
]

#: Bits of a character's class.
ALNUM = 1  # Python's ``str.isalnum``
SPECIAL = 2  # in ``data/special_characters.txt``
SEPARATOR = 4  # separates words: space, tab, newline

_CODE_POINTS = 0x110000


@cache
def special_characters() -> frozenset[int]:
    """The code points that count as special characters."""
    text = files(__package__).joinpath("data", "special_characters.txt").read_text("ascii")
    result: set[int] = set()
    for line in text.splitlines():
        if line.startswith("#"):
            continue
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
    return table


@cache
def ascii_classes() -> bytes:
    """Class bits of the 256 byte values, for ``bytes.translate``; zero from 128 on."""
    table = bytearray(256)
    for code in range(128):
        table[code] = ALNUM * chr(code).isalnum() | SPECIAL * (code in special_characters())
    for char in b" \t\n":
        table[char] |= SEPARATOR
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
