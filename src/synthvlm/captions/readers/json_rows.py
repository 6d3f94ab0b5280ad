"""Rows of JSON without names: lists of one length, the columns of which are asked for by number."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

from synthvlm.captions.readers.records import (
    DEFAULT_TEXT,
    Fields,
    MissingColumnError,
    usual_name,
    wordiest_column,
)

__all__ = ["asks_by_number", "check_rows", "names_columns"]

_SAMPLE_ROWS = 100
#: An id, a number, a name of a file or a URL.
_CODE = re.compile(
    r"(?=\S*\d)\S+|[^,;]+\.(?:jpe?g|png|webp|gif|bmp|tiff?)|https?://\S+|", re.IGNORECASE
)


def check_rows(values: Iterable[Any], fields: Fields) -> None:
    """Refuse lists that are rows of different columns, not several captions of one image.

    They are if all have one length and some columns, but not all, hold ids, numbers, names of files
    or URLs alone, or if the first one names the columns.

    Raises:
        MissingColumnError: They are, and no column was named; it names the captions' number.
    """
    rows = [*islice(values, _SAMPLE_ROWS)]
    if fields.text != DEFAULT_TEXT or not all(isinstance(row, list) for row in rows):
        return
    width = len(rows[0]) if rows else 0
    if width < 2 or any(len(row) != width for row in rows):
        return
    names = _names(rows[0]) if len(rows) > 1 else None
    data = rows if names is None else rows[1:]
    codes = [all(_is_code(row[number]) for row in data) for number in range(width)]
    if names is None and (all(codes) or not any(codes)):
        return
    number = str(wordiest_column(data) + 1 if names is None else names)
    cells = ", ".join(f"{n}: {str(cell)[:40]!r}" for n, cell in enumerate(data[0][:20], 1))
    advice = fields.advice("text_field", number, f"; if column {number} holds the captions, add ")
    raise MissingColumnError(
        fields.path,
        f"its lists are rows of {width} columns, {cells}",
        advice or "; write them as objects, with names",
    )


def _names(row: list[Any]) -> int | None:
    """The number of the captions' column, from 1, in a row that names columns."""
    cells = [str(cell).strip() for cell in row]
    if not all(re.fullmatch(r"[A-Za-z]\w*", cell) for cell in cells):
        return None
    name = usual_name(cells)
    return None if name is None else cells.index(name) + 1


def _is_code(cell: object) -> bool:
    if isinstance(cell, list | dict):
        return False
    return not isinstance(cell, str) or _CODE.fullmatch(cell) is not None


def asks_by_number(fields: Fields) -> bool:
    """Whether a column is asked for by its number."""
    return any(name is not None and name.isdecimal() for name in (fields.text, fields.image))


def names_columns(where: int | str, text: object) -> bool:
    """Whether the value of the captions' column is its name, in the first row."""
    return where == 1 and isinstance(text, str) and usual_name([text.strip()]) is not None
