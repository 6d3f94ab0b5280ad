"""What a reader is asked for, and what it gives for each row."""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
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
        advice: What to do, as it follows the problem in a line; "" where nothing is known.
    """

    def __init__(self, path: str, problem: str, advice: str = "") -> None:
        """Name the file, the problem and what to do."""
        super().__init__(path, problem, advice)
        self.path, self.problem, self.advice = self.args

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}{self.advice}"


def _never(number: int) -> bool:
    return False


def _unheard(line: str) -> None:
    pass


#: Names that columns of captions often have, the likeliest first; compared in lower case.
_CAPTION_NAMES = (
    *("caption", "captions", "text", "prompt", "comment", "sentence", "raw", "description"),
    *("title", "phrase", "query", "label"),
)
#: A text that YAML reads as that text.
_PLAIN = re.compile(r"(?!(?i:true|false|yes|no|on|off|null|y|n)$)[A-Za-z_][\w.\-]*", re.ASCII)


def _usual_name(names: Iterable[str]) -> str | None:
    """The name among those of columns that is the likeliest for captions."""
    usual = (name for wanted in _CAPTION_NAMES for name in names if name.lower() == wanted)
    return next(usual, None)


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
        header: Of a table in a text file: whether its first row names the columns. Without, they
            are named ``1``, ``2``, ...
        delimiter: Of a table in a text file; None: that of its format, or another if evident.
        quoting: Whether fields of a table in a text file may stand in double quotes; None: by its
            format, or otherwise if evident.
        place: The source's place in a recipe, as in ``sources.0``, for advice in messages; None:
            no setting can be advised.
        say: Takes a line for people; see ``note`` and ``warn``.
    """

    path: str
    text: str
    id: str
    image: str | None = None
    image_required: bool = False
    wants: Callable[[int], bool] = _never
    header: bool = True
    delimiter: str | None = None
    quoting: bool | None = None
    place: str | None = None
    say: Callable[[str], None] = _unheard

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

    def note(self, text: str) -> None:
        """Say how the file is read where that is not as usual."""
        self.say(f"note: {self.path}: {text}")

    def warn(self, text: str) -> None:
        """Say what is probably wrong with the file, or with how it is read."""
        self.say(f"warning: {self.path}: {text}")

    def advice(self, name: str, value: str | bool, introduction: str = "; ") -> str:
        """What to add to the command, as it follows a problem; "" where nothing can be advised.

        Args:
            name: Of the source's setting.
            value: Of it.
            introduction: What it begins with.
        """
        if self.place is None:
            return ""
        if isinstance(value, bool):
            text = str(value).lower()
        else:
            text = value if _PLAIN.fullmatch(value) or value.isdecimal() else json.dumps(value)
        return f"{introduction}--set {shlex.quote(f'{self.place}.{name}={text}')}"

    def advice_for(self, field: str, names: Sequence[str]) -> str:
        """What to add to the command for a file that has other fields, or columns, than asked."""
        name = {self.text: "text_field", self.id: "id_field"}.get(field, "image_field")
        same = (other for other in names if other.lower() == field.lower())
        near = next(same, None) or next(iter(difflib.get_close_matches(field, names, 1)), None)
        if near is not None:
            return f"; did you mean {near!r}?" + self.advice(name, near, " Then add ")
        usual = _usual_name(names) if name == "text_field" else None
        if usual is not None:
            return self.advice(name, usual, f"; if {usual!r} holds the captions, add ")
        return self.advice(name, names[0], "; name one of them, as in ") if names else ""

    def check(self, columns: list[str]) -> None:
        """Check that the columns hold the fields, each once.

        Raises:
            MissingColumnError: A field is not there.
            CaptionSourceError: It is there several times.
        """
        for field in self.required:
            if field not in columns:
                problem = f"there is no column {field!r}, only {_names(columns)}"
                raise MissingColumnError(self.path, problem, self.advice_for(field, columns))
        for field in self.asked:
            if columns.count(field) > 1:
                raise CaptionSourceError(
                    f"{self.path}: {columns.count(field)} columns are named {field!r}: "
                    f"rename all but one of them"
                )


class Record(NamedTuple):
    """A row of the file: where it stands, what it holds, or the problem with it.

    Attributes:
        where: Its number, from 1, in the unit of the format, or words for it.
        text: The caption, if it is a string.
        id: The given id, if there is one.
        problem: Why the row cannot be used, or None.
        image: The original image, if asked for and wanted: a path, bytes or ``{bytes, path}``.
        size: Rows of the file, or lines, that were read for it: what a problem loses.
    """

    where: int | str
    text: object = None
    id: object = None
    problem: str | None = None
    image: object = None
    size: int = 1


def record_of_object(where: int | str, value: object, fields: Fields) -> Record:
    """The record of a JSON object."""
    if not isinstance(value, dict):
        return Record(where, problem="not a JSON object")
    for field in fields.required:
        if field not in value:
            names = list(value)
            problem = f"there is no field {field!r} (found: {_names(names) or 'none'})"
            if fields.place is not None:
                problem += fields.advice_for(field, names)
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
