"""What a reader is asked for, and what it gives for each row."""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from synthvlm.captions.readers.json_values import json_names
from synthvlm.errors import CaptionSourceError
from synthvlm.safe_text import without_secrets

__all__ = [
    "AS_USUAL",
    "DEFAULT_TEXT",
    "MAX_ITEM_BYTES",
    "NO_IMAGE",
    "Fields",
    "LinesOfFiles",
    "MissingColumnError",
    "Record",
    "TableOptions",
    "kind_of",
    "names_of",
    "usual_name",
    "wordiest_column",
]

#: The longest line, JSON item or caption file of an archive; without a bound, a file without line
#: ends or an unclosed quote would be read into memory as a whole.
MAX_ITEM_BYTES = 1 << 24


class MissingColumnError(CaptionSourceError):
    """A table lacks a column, or a JSON object a field, that was named.

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


#: The field that is taken for the caption where none is named.
DEFAULT_TEXT = "caption"


#: Stands for the caption of a conversation that is about no image: the row is left out.
NO_IMAGE = object()


def _never(number: int) -> bool:
    return False


def _unheard(line: str) -> None:
    pass


#: Names that columns of captions often have, the likeliest first; compared in lower case.
_CAPTION_NAMES = (
    *("caption", "captions", "text", "prompt", "comment", "sentence", "raw", "description"),
    *("utterance", "phrase", "title", "question", "answer", "conversations", "messages", "query"),
    "label",
)
#: A text that YAML reads as that text.
_PLAIN = re.compile(r"(?!(?i:true|false|yes|no|on|off|null|y|n)$)[A-Za-z_][\w.\-]*", re.ASCII)


def usual_name(names: Sequence[str]) -> str | None:
    """The name, or end of a place, among those of columns that is the likeliest for captions."""
    ends = {name: name.rpartition(".")[2].lower() for name in reversed(names)}
    matches = (name for usual in _CAPTION_NAMES for name in names if ends[name] == usual)
    return next(matches, None)


def wordiest_column(rows: Iterable[Iterable[object]]) -> int:
    """The number, from 0, of the first column with the most words in some rows."""
    words: Counter[int] = Counter()
    for row in rows:
        for number, cell in enumerate(row):
            words[number] += len(str(cell).split())
    return words.most_common(1)[0][0]


@lru_cache(maxsize=256)  # a million rows may lack the same field
def _near_name(missing: str, names: tuple[str, ...]) -> str | None:
    same = (name for name in names if name.lower() == missing.lower())
    return next(same, None) or next(iter(difflib.get_close_matches(missing, names, 1)), None)


class TableOptions(NamedTuple):
    """What is known of how a table in a text file is written.

    Attributes:
        header: Whether its first row names the columns. Without, they are named ``1``, ``2``, ...
        delimiter: Between fields; None: that of its format, or another if evident.
        quoting: Whether fields may stand in double quotes; None: in ``csv`` they may, in ``tsv``
            they may where it is evident.
    """

    header: bool = True
    delimiter: str | None = None
    quoting: bool | None = None


#: Nothing is known but the format.
AS_USUAL = TableOptions()


@dataclass(frozen=True)
class Fields:
    """The file's path, for messages, and the fields to read from it.

    Attributes:
        path: The file.
        text: Field of the caption; "": captions are not counted.
        id: Field of the id; None: there are none.
        image: Field of the original image; None where images are not asked for.
        image_required: Whether a row without that field is bad.
        wants: Whether the image of a row (counted from 0 in this file) may be wanted. It is asked
            in order, and once true for a row, it is true for the rows behind it until that row
            has been taken.
        table: What is known of a table in a text file.
        place: The source's place in a recipe, as in ``sources.0``, for advice in messages; None:
            no setting can be advised.
        say: Takes a line for people; see ``note`` and ``warn``.
        turns: Whether the field of the caption is a LLaVA conversation.
        only_with_image: Whether conversations that are about no image are ``NO_IMAGE``.
    """

    path: str
    text: str
    id: str | None
    image: str | None = None
    image_required: bool = False
    wants: Callable[[int], bool] = _never
    table: TableOptions = AS_USUAL
    place: str | None = None
    say: Callable[[str], None] = _unheard
    turns: bool = False
    only_with_image: bool = False

    @cached_property
    def asked(self) -> tuple[str, ...]:
        """The fields to read: those of the caption, or that of the image."""
        names = (self.text, self.id) if self.image is None else (self.image,)
        return tuple(name for name in names if name is not None)

    @cached_property
    def names(self) -> dict[str, bytes]:
        """All names of fields that are asked for, as JSON writes them: of places, each part."""
        fields = [name.replace("[]", "") for name in (self.text, self.id, self.image) if name]
        return json_names(part for name in fields for part in (name, *name.split(".")) if part)

    @cached_property
    def nested(self) -> dict[str, str]:
        """The places of fields that were found inside of others, by name; filled while reading."""
        return {}

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The fields that must be there: what a user has named, not the customary ``id``."""
        if self.image is not None:
            return (self.image,) if self.image_required else ()
        return (self.text,) if self.id in (None, "id") else (self.text, self.id)

    def note(self, text: str) -> None:
        """Say how the file is read where that is not as usual."""
        self.say(f"note: {self.path}: {text}")

    def warn(self, text: str) -> None:
        """Say what is probably wrong with the file, or with how it is read."""
        self.say(f"warning: {self.path}: {text}")

    def advice(self, name: str, value: str | bool | None, introduction: str = "; ") -> str:
        """What to add to the command, as it follows a problem; "" where nothing can be advised.

        Args:
            name: Of the source's setting.
            value: Of it.
            introduction: What it begins with.
        """
        if self.place is None:
            return ""
        if value is None or isinstance(value, bool):
            text = json.dumps(value)
        else:
            text = value if _PLAIN.fullmatch(value) or value.isdecimal() else json.dumps(value)
        return f"{introduction}--set {shlex.quote(f'{self.place}.{name}={text}')}"

    def advice_for(self, field: str, names: Sequence[str], likely: str | None = None) -> str:
        """What to add to the command for a file that has other fields, or columns, than asked.

        Args:
            field: One that was asked for and is not there.
            names: Those that may be meant; of the caption, those that hold text.
            likely: Of them, the one that is the likeliest for captions by what it holds.
        """
        name = {self.text: "text_field", self.id: "id_field"}.get(field, "image_field")
        near = _near_name(field, tuple(names))
        if name == "id_field":
            numbers = self.advice(name, None, " (to number the rows: ")
            return (f"; did you mean {near!r}?" if near else "") + (numbers and numbers + ")")
        if near is not None:
            return f"; did you mean {near!r}?" + self.advice(name, near, " Then add ")
        if name == "text_field":
            if likely is not None:
                return self.advice(name, likely, f"; if {likely!r} holds the captions, add ")
            return "; no field looks like captions" if names else ""
        return self.advice(name, names[0], "; name one of them, as in ") if names else ""

    def no_image_field(self) -> CaptionSourceError:
        """The error of a file whose rows have no customary field of an original image."""
        return CaptionSourceError(
            f"{self.path}: set image_field to the column or key of the original image"
            + self.advice("image_field", "image", ", as in ")
        )

    def missing(
        self, field: str, names: Sequence[str], texts: Sequence[str], likely: str | None
    ) -> str:
        """The problem of an object that lacks a field.

        Args:
            field: The field.
            names: Those that it has.
            texts: Those that hold text, also inside of others.
            likely: As in ``advice_for``.
        """
        near = texts if field == self.text else names
        advice = "" if self.place is None else self.advice_for(field, near, likely)
        if self.turns:
            advice = self.advice("format", "json", "; to find the shape by the content: ")
        return f"there is no field {field!r} (found: {names_of(names) or 'none'}){advice}"

    def check(
        self, columns: list[str], texts: Sequence[str] | None = None, likely: str | None = None
    ) -> None:
        """Check that the columns hold the fields, each once.

        Args:
            columns: Their names.
            texts: The names of those that hold text; None: all may.
            likely: As in ``advice_for``.

        Raises:
            MissingColumnError: A field is not there.
            CaptionSourceError: It is there several times.
        """
        for field in self.required:
            if field not in columns:
                problem = f"there is no column {field!r}, only {names_of(columns)}"
                near = columns if texts is None or field != self.text else texts
                raise MissingColumnError(self.path, problem, self.advice_for(field, near, likely))
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
        text: The caption, if it is a string; ``NO_IMAGE``: the row is left out.
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


class LinesOfFiles:
    """Passes on lines about files; what holds for many files is said of the first alone."""

    def __init__(self, say: Callable[[str], None], path: str) -> None:
        """Take what the lines are passed to, and the path of the source."""
        self._say, self._path = say, without_secrets(path)
        self._files: Counter[str] = Counter()

    def add(self, file: str, line: str) -> None:
        """Take a line about a file of the source."""
        text = line.replace(f": {file}: ", f": {self._path}: ", 1)
        self._files[text] += 1
        if self._files[text] == 1:
            self._say(line)

    def end(self) -> None:
        """Say how many files a line holds for, where it is more than one."""
        for text, count in self._files.items():
            if count > 1:
                self._say(f"{text} ({count} files)")


def kind_of(value: object) -> str:
    """What JSON calls the type of a value."""
    kinds = {dict: "an object", list: "a list", bool: "a boolean", int: "a number", str: "text"}
    kinds |= {bytes: "bytes", float: "a number"}
    return "null" if value is None else kinds.get(type(value), f"a {type(value).__name__}")


def names_of(names: Iterable[str]) -> str:
    """Names for a message, not too many of them."""
    names = list(names)
    return ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
