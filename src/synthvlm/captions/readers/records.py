"""What a reader is asked for, and what it gives for each row."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from synthvlm.errors import CaptionSourceError

__all__ = [
    "MAX_ITEM_BYTES",
    "Fields",
    "MissingColumnError",
    "Record",
    "record_of_object",
    "without_mark",
]

#: The longest line, JSON item or caption file of an archive; without a bound, a file without line
#: ends or an unclosed quote would be read into memory as a whole.
MAX_ITEM_BYTES = 1 << 24


class MissingColumnError(CaptionSourceError):
    """A table lacks a column that was named.

    Attributes:
        path: Of the file.
        problem: Which column, and which ones there are.
    """

    def __init__(self, path: str, problem: str) -> None:
        """Name the file and the problem."""
        super().__init__(path, problem)
        self.path, self.problem = self.args

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def _never(number: int) -> bool:
    return False


@dataclass(frozen=True)
class Fields:
    """The file's path, for messages, and the fields to read from it.

    Attributes:
        path: The file.
        text: Field of the caption.
        id: Field of the id.
        image: Field of the original image; None where images are not asked for.
        image_required: Whether a row without that field is bad.
        wants: Whether the image of a row (counted from 0 in this file) may be wanted. It is asked
            in order, and once true for a row, it is true for the rows behind it until that row
            has been taken.
    """

    path: str
    text: str
    id: str
    image: str | None = None
    image_required: bool = False
    wants: Callable[[int], bool] = _never

    @cached_property
    def asked(self) -> tuple[str, ...]:
        """The fields to read: those of the caption, or that of the image."""
        return (self.text, self.id) if self.image is None else (self.image,)

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The fields that must be there: what a user has named, not the customary ``id``."""
        if self.image is not None:
            return (self.image,) if self.image_required else ()
        return (self.text,) if self.id == "id" else (self.text, self.id)

    def check(self, columns: list[str]) -> None:
        """Raise MissingColumnError unless the columns hold the fields."""
        for field in self.required:
            if field not in columns:
                near = difflib.get_close_matches(field, columns, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise MissingColumnError(
                    self.path, f"there is no column {field!r}, only {_names(columns)}{hint}"
                )


class Record(NamedTuple):
    """A row of the file: where it stands, what it holds, or the problem with it.

    Attributes:
        where: Its number, from 1, in the unit of the format, or words for it.
        text: The caption, if it is a string.
        id: The given id, if there is one.
        problem: Why the row cannot be used, or None.
        image: The original image, if asked for and wanted: a path, bytes or ``{bytes, path}``.
    """

    where: int | str
    text: object = None
    id: object = None
    problem: str | None = None
    image: object = None


def record_of_object(where: int | str, value: object, fields: Fields) -> Record:
    """The record of a JSON object."""
    if not isinstance(value, dict):
        return Record(where, problem="not a JSON object")
    for field in fields.required:
        if field not in value:
            names = _names(list(value)) or "none"
            problem = f"there is no field {field!r} (found: {names})"
            return Record(where, value.get(fields.text), value.get(fields.id), problem)
    if fields.image is not None:
        return Record(where, image=value.get(fields.image))
    return Record(where, value.get(fields.text), value.get(fields.id))


def without_mark(start: bytes, path: str) -> bytes:
    """The start of a text file without its byte order mark."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CaptionSourceError(f"{path} is UTF-16; save the file as UTF-8")
    return start.removeprefix(b"\xef\xbb\xbf")


def _names(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
