"""How a table in a text file is written: delimiter, quotes, header, as its beginning shows."""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from synthvlm.captions.readers.file_start import INVALID_UTF8
from synthvlm.captions.readers.likely_fields import likely_field
from synthvlm.captions.readers.objects import is_utf8
from synthvlm.captions.readers.records import (
    DEFAULT_TEXT,
    Fields,
    MissingColumnError,
    usual_name,
    wordiest_column,
)
from synthvlm.errors import CaptionSourceError

__all__ = ["HEAD_BYTES", "Head", "TableForm", "form_of", "has_doubled_quotes", "has_evident_quotes"]

#: Bytes of a file's beginning by which it is seen how the file is written.
HEAD_BYTES = 1 << 16
_HEAD_ROWS = 100
_DELIMITERS = ",\t;|"
_URL = re.compile(r"\s*https?://\S+\s*", re.IGNORECASE)
#: What stands in data, and in no name of a column.
_DATA = re.compile(r"https?://|^[\d.,:/+-]+$|\.(jpe?g|png|webp|gif)\b|(\S+\s+){3}\S", re.IGNORECASE)


class Head(NamedTuple):
    """The whole lines at a file's beginning.

    Attributes:
        text: They; an undecodable byte is a lone surrogate.
        is_whole: Whether the file ends with them.
    """

    text: str
    is_whole: bool

    @classmethod
    def of(cls, start: bytes) -> Head:
        """Take the first ``HEAD_BYTES`` of a file, a byte order mark left out."""
        text = start.decode("utf-8", "surrogateescape")
        if len(start) < HEAD_BYTES - 3:
            return cls(text, True)
        return cls(text[: max(text.rfind("\n"), text.rfind("\r")) + 1] or text, False)


class TableForm(NamedTuple):
    """How a table is written.

    Attributes:
        delimiter: Between fields.
        quoted: Whether fields may stand in double quotes.
        spaced: Whether blanks after a delimiter belong to it.
        header: Whether the first row holds the names.
        names: Of the columns; without a header their numbers, from 1.
        text: The column of the captions, where it is another than was asked for.
    """

    delimiter: str
    quoted: bool
    spaced: bool = False
    header: bool = True
    names: Sequence[str] = ()
    text: str | None = None

    def reader(self, lines: Iterable[str]) -> Any:
        """A ``csv.reader``; strict where quotes have a meaning."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            skipinitialspace=self.spaced,
            strict=self.quoted,
        )

    def column(self, name: str | None) -> int | None:
        """The place of a column, given by its name or number; None where there is none."""
        if name is None or name in self.names:
            return None if name is None else self.names.index(name)
        return int(name) - 1 if name in _numbers(self.names) else None

    def has(self, names: Iterable[str]) -> bool:
        """Whether it has all these columns."""
        return all(self.column(name) is not None for name in names)


def form_of(head: Head, fields: Fields, usual: str) -> TableForm | None:
    """How a table is written; None where it is empty. What is unusual is noted.

    Args:
        head: Its whole first lines.
        fields: What is asked for, and what is known of the table.
        usual: The delimiter, where nothing is known; where it is a comma, fields may be quoted.

    Raises:
        CaptionSourceError: The header is damaged, lacks a column, or has it twice.
    """
    form = _with_names(head, fields, usual)
    if form is None:
        return None
    if not is_utf8("".join(form.names)):
        raise CaptionSourceError(f"{fields.path}, line 1: {INVALID_UTF8}")
    if fields.table.delimiter is None and form.delimiter != usual:
        fields.note(f"fields are separated by {form.delimiter!r}")
    if form.quoted and fields.table.quoting is None and usual != ",":
        fields.note(
            "fields stand in double quotes, which are taken off"
            + fields.advice("quoting", False, "; if they belong to the captions, add ")
        )
    sample = _rows(head, form)
    if (
        form.header
        and fields.table.header
        and not any(name in form.names for name in fields.required)
    ):
        pairs = _as_pairs(form, sample, fields)
        if pairs is not None:
            return pairs
    if not form.header and form.names == ["1"] and fields.text == DEFAULT_TEXT:
        form = form._replace(text="1")
    if form.header and not form.has(fields.required):
        _header_below(head, fields)
    _check_columns(form, sample, fields)
    _warn_of_header(form, sample, fields)
    return form


def _with_names(head: Head, fields: Fields, usual: str) -> TableForm | None:
    """The form in which the columns asked for are there, else that of the most columns."""
    if not head.text.strip():
        return None
    best: TableForm | None = None
    others = [] if fields.table.delimiter else [mark for mark in _DELIMITERS if mark != usual]
    for delimiter in [fields.table.delimiter or usual, *others]:
        quoted = fields.table.quoting
        if quoted is None:
            quoted = usual == "," or has_evident_quotes(head, delimiter)
        form = TableForm(delimiter, quoted, header=fields.table.header)
        rows = _rows(head, form)
        if not rows:
            _damaged_header(head, form, fields)
        first = rows[0]
        stripped = [name.strip() for name in first]
        spaced = len(first) > 1 and all(name[:1] == " " for name in first[1:])
        forms = [form._replace(names=first if fields.table.header else _numbers(first))]
        if fields.table.header and stripped != first:
            forms.append(form._replace(names=stripped, spaced=spaced))
        even = sum(len(row) == len(first) for row in rows)
        is_even = even == len(rows) or (fields.table.header and 2 * even > len(rows))
        for form in forms:
            if form.has(fields.required) and (fields.table.header or len(first) > 1):
                return form
        if best is None or (len(best.names) == 1 < len(first) and is_even):
            best = forms[-1]
    return best


def _header_below(head: Head, fields: Fields) -> None:
    """Refuse a table that has a title, or a comment, above the names of its columns."""
    for number, line in enumerate(head.text.splitlines()[:_HEAD_ROWS], 1):
        cells = [cell.strip(' "') for cell in re.split(f"[{_DELIMITERS}]", line)]
        if number > 1 and len(cells) > 1 and all(name in cells for name in fields.required):
            path = shlex.quote(fields.path)
            raise CaptionSourceError(
                f"{fields.path}: the columns are named in line {number}: remove the lines above "
                f"it: tail -n +{number} {path} > NEW"
            )


def _damaged_header(head: Head, form: TableForm, fields: Fields) -> None:
    try:
        next(form.reader(io.StringIO(head.text, newline="")))
    except csv.Error as error:
        advice = fields.advice("quoting", False, "; if quotes belong to the texts, add ")
        problem = f"{fields.path}, line 1: invalid header: {error}{advice}"
        raise CaptionSourceError(problem) from error
    raise CaptionSourceError(f"{fields.path}: the first {_HEAD_ROWS} lines are blank")


def has_evident_quotes(head: Head, delimiter: str) -> bool:
    """Whether fields evidently stand in double quotes, in a table that usually has none.

    They do if all rows can be read so, and that mends rows which otherwise have too few or too
    many columns, or takes quotes off that are written twice, or the whole header is quoted.
    """
    if '"' not in head.text:
        return False
    with_quotes, plain = TableForm(delimiter, True), TableForm(delimiter, False)
    most = len(head.text)
    rows, is_readable = _rows_and_end(head, with_quotes, most)
    if not rows or not is_readable or any(len(row) != len(rows[0]) for row in rows):
        return False
    raw = _rows(head, plain, most)
    if any(len(row) != len(raw[0]) for row in raw) or all(map(_is_quoted, raw[0])):
        return True
    return any(has_doubled_quotes(field) for row in raw for field in row)


def has_doubled_quotes(field: str) -> bool:
    """Whether a field stands in double quotes, with others written twice in them."""
    return _is_quoted(field) and '""' in field[1:-1]


def _is_quoted(field: str) -> bool:
    return len(field) > 2 and field[0] == field[-1] == '"'


def _rows(head: Head, form: TableForm, most: int = _HEAD_ROWS) -> list[list[str]]:
    return _rows_and_end(head, form, most)[0]


def _rows_and_end(head: Head, form: TableForm, most: int) -> tuple[list[list[str]], bool]:
    """The first rows, blank ones left out, and whether the reading did not end in an error."""
    rows: list[list[str]] = []
    try:
        for row in form.reader(io.StringIO(head.text, newline="")):
            if row:
                rows.append(row)
            if len(rows) == most:
                break
    except csv.Error as error:
        # The last row may go on behind the head.
        return rows, not head.is_whole and "unexpected end" in str(error)
    return rows, True


def _as_pairs(form: TableForm, sample: list[list[str]], fields: Fields) -> TableForm | None:
    """The form of rows of a text and a URL without a header, as in CC3M and CC12M."""
    if any(len(row) != 2 for row in sample):
        return None
    for url in (0, 1):
        if all(_URL.fullmatch(row[url]) and not _URL.fullmatch(row[1 - url]) for row in sample):
            text = str(2 - url)
            fields.note(f"it has no header, and captions in column {text}, as in CC3M or CC12M")
            form = form._replace(header=False, names=["1", "2"])
            return form if form.has([fields.text]) else form._replace(text=text)
    return None


def _check_columns(form: TableForm, sample: list[list[str]], fields: Fields) -> None:
    names = list(form.names)
    stripped = [name.strip() for name in names]
    for name in fields.asked:
        if stripped.count(name) > 1:
            number = str(stripped.index(name) + 1)
            raise CaptionSourceError(
                f"{fields.path}: {stripped.count(name)} columns are named {name!r}: "
                "rename all but one"
                + fields.advice("text_field", number, ", or name one by its number, as in ")
            )
    if form.text is not None:
        return
    missing = next((name for name in fields.required if form.column(name) is None), None)
    texts = _texts_of_columns(names, sample)
    number = str(wordiest_column(row[: len(sample[0])] for row in sample) + 1)
    if missing is not None and not form.header:
        cells = ", ".join(f"{n}: {_excerpt(cell)}" for n, cell in enumerate(sample[0][:20], 1))
        advice = "" if missing != fields.text else fields.advice("text_field", number)
        problem = f"there is no header, and so no column {missing!r}, only {cells}"
        raise MissingColumnError(fields.path, problem, advice)
    if missing is not None and any(map(_DATA.search, sample[0])):
        cells = ", ".join(map(_excerpt, sample[0][:20]))
        advice = fields.advice("header", False, "; if these are data and no names, add ")
        advice += fields.advice("text_field", number, " ")
        problem = f"there is no column {missing!r}, only {cells}"
        raise MissingColumnError(fields.path, problem, advice)
    numbers = [name for name in fields.asked if form.column(name) is not None]
    columns = [*names, *(number for number in numbers if number not in names)]
    fields.check(columns, likely=likely_field(texts) if len(texts) == len(names) else None)


def _texts_of_columns(names: list[str], sample: list[list[str]]) -> dict[str, list[str]]:
    rows = [row for row in sample[1:] if len(row) == len(names)]
    return {name: [row[number] for row in rows] for number, name in enumerate(names)}


def _warn_of_header(form: TableForm, sample: list[list[str]], fields: Fields) -> None:
    """Warn of a header that looks like data, and of data that look like a header."""
    column = form.column(form.text or fields.text)
    if column is None or fields.image is not None:
        return
    cell = sample[0][column]
    is_by_number = form.header and fields.text not in form.names
    if is_by_number and (cell.count(" ") > 1 or any(map(_DATA.search, sample[0]))):
        fields.warn(
            f"the first row is taken for names of columns, and looks like data: {_excerpt(cell)}"
            + fields.advice("header", False, "; if it is data, add ")
        )
    elif not form.header and not fields.table.header and usual_name([cell.strip()]):
        fields.warn(
            f"the first row is taken for data, and looks like names of columns: {_excerpt(cell)}"
            + fields.advice("header", True, "; if it is a header, add ")
        )


def _excerpt(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else f"{cell[:37]}...")


def _numbers(row: Sequence[str]) -> list[str]:
    return [str(number) for number in range(1, len(row) + 1)]
