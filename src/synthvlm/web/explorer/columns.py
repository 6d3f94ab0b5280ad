"""Columns of pairs: numbers, categories, flags and texts, one value a row."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from synthvlm.web.server import BadRequestError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Column",
    "category",
    "flag",
    "fold",
    "folded",
    "number",
    "text",
    "whole_words",
    "words_in",
]

Kind = Literal["number", "category", "flag", "text"]
Mask = npt.NDArray[np.bool_]

_BINS = 40
#: Values of a category that a page is told, the most frequent first.
_VALUES = 500


@dataclass(frozen=True)
class Column:
    """A column of pairs.

    Attributes:
        name: Its name in queries.
        label: What people read.
        kind: ``number`` (float64, NaN for none), ``category`` (int32 places in ``names``, -1 for
            none), ``flag`` (bool) or ``text`` (a pyarrow array of strings).
        values: Of all rows, shape (rows,).
        names: Of a category.
        about: What it is, in a sentence; may be empty.
    """

    name: str
    label: str
    kind: Kind
    values: Any
    names: Sequence[str] = ()
    about: str = ""

    def value(self, row: int) -> Any:
        """The value of a row as JSON: a number, a name, a bool, a text, or None."""
        value = self.values[row]
        if self.kind == "text":
            return value.as_py()
        if self.kind == "category":
            return self.names[value] if value >= 0 else None
        return bool(value) if self.kind == "flag" else _plain(float(value))

    @cached_property
    def description(self) -> dict[str, Any]:
        """What a page is told of it."""
        told: dict[str, Any] = {"name": self.name, "label": self.label, "kind": self.kind}
        if self.about:
            told["about"] = self.about
        if self.kind == "number":
            return told | self._distribution()
        if self.kind == "flag":
            yes = int(np.count_nonzero(self.values))
            counts: list[tuple[Any, int]] = [(True, yes), (False, len(self.values) - yes)]
        elif self.kind == "category":
            present = self.values[self.values >= 0]
            numbers = np.bincount(present, minlength=len(self.names))
            order = np.argsort(-numbers, kind="stable")
            counts = [(self.names[n], int(numbers[n])) for n in order.tolist() if numbers[n]]
            none = len(self.values) - len(present)
            counts += [(None, none)] if none else []
        else:
            counts = []
        values = [{"value": value, "count": count} for value, count in counts[:_VALUES]]
        return told | {"values": values, "distinct": len(counts)}

    def _distribution(self) -> dict[str, Any]:
        known = self.values[np.isfinite(self.values)]
        missing = len(self.values) - len(known)
        if not len(known):
            return {"minimum": None, "maximum": None, "histogram": None, "missing": missing}
        low, high = float(known.min()), float(known.max())
        counts, edges = np.histogram(known, bins=_BINS, range=(low, high) if high > low else None)
        histogram = {"edges": edges.tolist(), "counts": counts.tolist()}
        return {"minimum": low, "maximum": high, "histogram": histogram, "missing": missing}

    def matches(self, wanted: Mapping[str, Any]) -> Mask:
        """The rows that a filter lets through: bool, shape (rows,).

        Args:
            wanted: ``minimum`` and ``maximum`` (inclusive) of a number; ``values`` of a number,
                category or flag, null for none; ``words`` of a text, all of which occur.

        Raises:
            BadRequestError: It is none for this kind of column.
        """
        known = {
            "number": {"minimum", "maximum", "values"},
            "category": {"values"},
            "flag": {"values"},
            "text": {"words"},
        }[self.kind]
        if not isinstance(wanted, Mapping) or not wanted.keys() <= known:
            names = " or ".join(sorted(known))
            raise BadRequestError(f"a filter of {self.name} is an object of {names}")
        mask = np.ones(len(self.values), bool)
        for name, value in wanted.items():
            if value is None:
                continue
            if name == "words":
                mask &= words_in(self._folded, str(value))
            elif name == "values":
                mask &= self._is_one_of(value)
            elif isinstance(value, bool) or not isinstance(value, int | float):
                raise BadRequestError(f"the {name} of {self.name} is no number")
            else:
                mask &= self.values >= value if name == "minimum" else self.values <= value
        return mask

    def _is_one_of(self, values: Any) -> Mask:
        if not isinstance(values, list):
            raise BadRequestError(f"the values of a filter of {self.name} are no list")
        if self.kind == "category":
            places = {name: place for place, name in enumerate(self.names)}
            wanted = [places.get(value, -2) if value is not None else -1 for value in values]
            return np.asarray(np.isin(self.values, np.array(wanted, np.int64)))
        if self.kind == "flag":
            flags = [value for value in values if isinstance(value, bool)]
            return np.asarray(np.isin(self.values, np.array(flags, bool)))
        numbers = [float(value) for value in values if isinstance(value, int | float)]
        mask = np.isin(self.values, np.array(numbers, np.float64))
        return np.asarray(mask | np.isnan(self.values)) if None in values else np.asarray(mask)

    @cached_property
    def _folded(self) -> pa.Array:
        return folded(self.values)

    def order(self, rows: npt.NDArray[np.int64], *, descending: bool) -> npt.NDArray[np.int64]:
        """Rows sorted by their values, equal ones as before; those without one come last."""
        if self.kind == "text":
            keys = np.array([value or "" for value in self.values.take(rows).to_pylist()], object)
            missing = keys == ""
            places = np.array(sorted(range(len(keys)), key=keys.__getitem__, reverse=descending))
            order = places.astype(np.int64)
        else:
            keys = self.values[rows].astype(np.float64)
            if self.kind == "category":
                by_name = np.empty(len(self.names) + 1)
                by_name[np.argsort(np.array([*self.names], object), kind="stable")] = np.arange(
                    len(self.names)
                )
                by_name[-1] = np.nan
                keys = by_name[self.values[rows]]
            missing = np.isnan(keys)
            order = np.argsort(-keys if descending else keys, kind="stable")
        ordered = rows[order]
        last = missing[order]
        return np.concatenate([ordered[~last], ordered[last]])


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


def text(name: str, label: str, values: pa.ChunkedArray, about: str = "") -> Column:
    """A column of texts; null is none."""
    return Column(name, label, "text", values.combine_chunks(), about=about)


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
        found = pc.match_substring_regex(texts, pattern)
        counts += found.to_numpy(zero_copy_only=False)
    return counts


def _distinct(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _escaped(pattern: str) -> str:
    """Without escapes that RE2 does not know: of letters of other scripts."""
    return re.sub(r"\\([^\x00-\x7f])", r"\1", pattern)
