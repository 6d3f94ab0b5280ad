"""Columns of pairs: numbers, categories and flags, by which they are filtered and sorted."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from synthvlm.web.messages import BadRequestError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Column",
    "category",
    "flag",
    "fold",
    "folded",
    "lines",
    "number",
    "whole_words",
    "words_in",
]

Kind = Literal["number", "category", "flag"]
Mask = npt.NDArray[np.bool_]

_BINS = 40
#: Values of a category that a page is told, the most frequent first.
_VALUES = 200


@dataclass(frozen=True)
class Column:
    """A column of pairs.

    Attributes:
        name: Its name in queries.
        label: What people read.
        kind: ``number`` (float64, NaN for none), ``category`` (int32 places in ``names``, -1 for
            none) or ``flag`` (bool).
        values: Of all rows, shape (rows,).
        names: Of a category.
        about: What it is, in a sentence; may be empty.
        further: Of a category of which a row may have several values: rows and places of all but
            the first, int64 and int32, each shape (n,).
    """

    name: str
    label: str
    kind: Kind
    values: npt.NDArray[Any]
    names: Sequence[str] = ()
    about: str = ""
    further: tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]] | None = None

    def value(self, row: int) -> Any:
        """The value of a row as JSON, its first: a number, a name, a bool, or None."""
        value = self.values[row]
        if self.kind == "category":
            return self.names[value] if value >= 0 else None
        return bool(value) if self.kind == "flag" else _plain(float(value))

    @cached_property
    def missing(self) -> Mask:
        """The rows without a value."""
        if self.kind == "flag":
            return np.zeros(len(self.values), bool)
        return np.asarray(self.values < 0 if self.kind == "category" else np.isnan(self.values))

    @cached_property
    def description(self) -> dict[str, Any]:
        """What a page is told of it; a number has one value at least."""
        description: dict[str, Any] = {"name": self.name, "label": self.label, "kind": self.kind}
        description |= {"about": self.about, "missing": int(np.count_nonzero(self.missing))}
        if self.kind == "number":
            known = self.values[~self.missing]
            low, high = float(known.min()), float(known.max())
            counts, edges = np.histogram(known, _BINS, (low, high) if high > low else None)
            histogram = {"edges": edges.tolist(), "counts": counts.tolist()}
            return description | {"minimum": low, "maximum": high, "histogram": histogram}
        counted = self._counted()
        values = [{"value": value, "count": count} for value, count in counted[:_VALUES]]
        others = sum(count for _, count in counted[_VALUES:])
        return description | {"values": values, "others": others}

    def _counted(self) -> list[tuple[Any, int]]:
        """Each value and how many rows have it, the most frequent first."""
        if self.kind == "flag":
            yes = int(np.count_nonzero(self.values))
            return [(True, yes), (False, len(self.values) - yes)]
        places = self.values[self.values >= 0]
        if self.further is not None:
            places = np.concatenate([places, self.further[1]])
        numbers = np.bincount(places, minlength=len(self.names))
        order = np.argsort(-numbers, kind="stable")
        return [(self.names[n], int(numbers[n])) for n in order.tolist() if numbers[n]]

    def matches(self, asked: Any) -> Mask:
        """The rows that a filter lets through: bool, shape (rows,). Those without a value are not.

        Args:
            asked: ``minimum`` and ``maximum`` (inclusive) of a number, ``values`` of others.

        Raises:
            BadRequestError: It is none for this kind of column.
        """
        known = {"minimum", "maximum"} if self.kind == "number" else {"values"}
        if not isinstance(asked, Mapping) or not asked or not asked.keys() <= known:
            names = " and ".join(sorted(known))
            raise BadRequestError(f"a filter of {self.name} is an object of {names}")
        if self.kind != "number":
            return self._is_one_of(asked["values"])
        mask = ~self.missing
        for name, value in asked.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise BadRequestError(f"the {name} of {self.name} is no number")
            mask &= self.values >= value if name == "minimum" else self.values <= value
        return mask

    def _is_one_of(self, values: Any) -> Mask:
        if not isinstance(values, list):
            raise BadRequestError(f"the values of a filter of {self.name} are no list")
        if self.kind == "flag":
            flags = [value for value in values if isinstance(value, bool)]
            return np.asarray(np.isin(self.values, np.array(flags, bool)))
        places = {name: place for place, name in enumerate(self.names)}
        codes = [places[value] for value in values if isinstance(value, str) and value in places]
        mask = np.isin(self.values, np.array(codes, np.int32))
        if self.further is not None:
            rows, others = self.further
            mask[rows[np.isin(others, np.array(codes, np.int32))]] = True
        return np.asarray(mask)

    def order(self, rows: npt.NDArray[np.int64], *, descending: bool) -> npt.NDArray[np.int64]:
        """Rows sorted by their values, equal ones as before; those without one come last."""
        keys = self.values[rows].astype(np.float64)
        if self.kind == "category":
            keys = self._alphabetical[self.values[rows]]
        missing = np.isnan(keys)
        order = np.argsort(-keys if descending else keys, kind="stable")
        ordered, last = rows[order], missing[order]
        return np.concatenate([ordered[~last], ordered[last]])

    @cached_property
    def _alphabetical(self) -> npt.NDArray[np.float64]:
        """The place of each name among all, NaN for none, which is at the end."""
        places = np.full(len(self.names) + 1, np.nan)
        names = sorted(range(len(self.names)), key=lambda place: fold(self.names[place]))
        places[names] = np.arange(len(names))
        return places


def number(name: str, label: str, values: pa.ChunkedArray, about: str = "") -> Column:
    """A column of numbers; null is none."""
    numbers = values.to_numpy().astype(np.float64)
    return Column(name, label, "number", numbers, about=about)


def category(name: str, label: str, values: pa.ChunkedArray, about: str = "") -> Column:
    """A column of names; null is none."""
    encoded = values.combine_chunks().dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy().astype(np.int32)
    return Column(name, label, "category", codes, encoded.dictionary.to_pylist(), about)


def flag(name: str, label: str, values: npt.NDArray[np.bool_], about: str = "") -> Column:
    """A column of true and false."""
    return Column(name, label, "flag", values, about=about)


def lines(name: str, label: str, values: pa.ChunkedArray, about: str = "") -> Column:
    """A category of which a row may have several values: the lines of a text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = pc.split_pattern(pc.fill_null(values.combine_chunks(), ""), "\n")
    owners = pc.list_parent_indices(parts).to_numpy()
    encoded = pc.list_flatten(parts).dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int32)
    names = encoded.dictionary.to_pylist()
    assert isinstance(parts, pa.ListArray)
    if "" in names:
        codes[codes == names.index("")] = -1
    is_first = np.ones(len(owners), bool)
    is_first[1:] = owners[1:] != owners[:-1]
    rest = ~is_first & (codes >= 0)
    further = owners[rest].astype(np.int64), codes[rest]
    return Column(name, label, "category", codes[is_first], names, about, further)


def _plain(value: float) -> float | int | None:
    if not np.isfinite(value):
        return None
    return int(value) if value == int(value) and abs(value) < 2**53 else value


#: Letters that no decomposition takes apart, as they are looked for.
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "æ": "ae", "œ": "oe"})
#: Accents of Latin, Greek and Cyrillic letters; points of Hebrew and Arabic vowels.
_ACCENTS = dict.fromkeys([*range(0x300, 0x370), *range(0x591, 0x5BE), *range(0x64B, 0x653)])


def fold(text: str) -> str:
    """A text as it is searched: without case, and accents that people may leave out."""
    apart = unicodedata.normalize("NFKD", text.casefold()).translate(_ACCENTS)
    return unicodedata.normalize("NFKC", apart).translate(_LETTERS)


def folded(texts: pa.Array) -> pa.Array:
    """Texts as ``fold`` makes them, null as empty; those in ASCII by Arrow, which is quick."""
    import pyarrow as pa
    import pyarrow.compute as pc

    filled = pc.fill_null(texts.cast(pa.large_string()), "")
    is_ascii = pc.string_is_ascii(filled)
    lower = pc.ascii_lower(filled)
    others = pc.invert(is_ascii)
    if not pc.any(others).as_py():
        return lower
    mended = pa.array(map(fold, filled.filter(others).to_pylist()), pa.large_string())
    return pc.replace_with_mask(lower, others, mended)


def words_in(texts: pa.Array, words: str) -> Mask:
    """Which folded texts hold all of some words: bool, shape (len(texts),)."""
    import pyarrow.compute as pc

    mask = np.ones(len(texts), bool)
    for word in fold(words).split():
        mask &= pc.match_substring(texts, word).to_numpy(zero_copy_only=False)
    return mask


def whole_words(texts: pa.Array, words: str) -> npt.NDArray[np.float64]:
    """How many of some words stand in folded texts by themselves: float64, shape (len(texts),)."""
    import pyarrow.compute as pc

    counts = np.zeros(len(texts))
    for word in _distinct(fold(words).split()):
        pattern = rf"(^|[^\pL\pN]){_escaped(re.escape(word))}($|[^\pL\pN])"
        matches = pc.match_substring_regex(texts, pattern)
        counts += matches.to_numpy(zero_copy_only=False)
    return counts


def _distinct(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _escaped(pattern: str) -> str:
    """Without escapes that RE2 does not know: of letters of other scripts."""
    return re.sub(r"\\([^\x00-\x7f])", r"\1", pattern)
