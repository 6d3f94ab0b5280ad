"""Tables in text files: CSV, TSV, and the pairs of a caption and a URL of CC3M and CC12M."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

from synthvlm.captions.readers.file_start import INVALID_UTF8, opened_text
from synthvlm.captions.readers.objects import is_utf8
from synthvlm.captions.readers.records import MAX_ITEM_BYTES, Fields, Record, TableOptions
from synthvlm.captions.readers.table_form import (
    HEAD_BYTES,
    Head,
    TableForm,
    form_of,
    has_doubled_quotes,
)
from synthvlm.errors import CaptionSourceError

__all__ = ["read_cc3m", "read_cc12m", "read_csv", "read_table", "read_tsv"]

#: Objects of JSON, in a list or a line each; and an object that ends in its line.
_JSON = re.compile(rb"\s*(?:\[\s*)?\{\s*\"[^\"]*\"\s*:")
_JSON_LINE = re.compile(rb"\s*\{[^\r\n]*\}\s*?[\r\n]")
#: The first line of a table by which Excel knows the delimiter.
_DELIMITER_LINE = re.compile(rb"\"?sep=([^\r\n])\"?(?:\r?\n|\r)", re.IGNORECASE)
#: Several fields may stand in a line; decompressed, one can have gigabytes.
_MAX_LINE_CHARS = 2 * MAX_ITEM_BYTES
#: A field of more lines, each of which could be a row, is no text.
_MAX_ROWS_IN_FIELD = 3
_LINE_END = re.compile(r"\r\n|\r|\n")
#: A number, an id, a name of a file or a URL.
_CODE = re.compile(r"(?=\S*\d)\S+|\S+\.\w{3,4}|https?://\S+")


def read_csv(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """Comma-separated and quoted. Strict: a stray quote is a bad row, not a guess."""
    return read_table(file, fields, ",")


def read_tsv(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """Tab-separated, and quoted only where that is evident, as pandas writes it."""
    return read_table(file, fields, "\t")


def read_cc3m(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """Conceptual Captions as published: ``caption<TAB>url``, without a header."""
    return read_table(file, _pairs(fields, "1"), "\t")


def read_cc12m(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """Conceptual 12M as published: ``url<TAB>caption``, without a header."""
    return read_table(file, _pairs(fields, "2"), "\t")


def _pairs(fields: Fields, text: str) -> Fields:
    return replace(fields, text=text, id=None, table=TableOptions(False, "\t", False))


def read_table(file: BinaryIO, fields: Fields, usual: str) -> Iterator[Record]:
    """A row of a table in each record; the first row is its header unless ``fields`` says not.

    Args:
        file: The table.
        fields: The columns to read, by name or by number from 1.
        usual: The delimiter, unless ``fields`` names one or the file evidently has another; where
            it is a comma, fields may be quoted.

    Raises:
        CaptionSourceError: The header is damaged, lacks a column, or has it twice.
    """
    # The module's own limit (128 Ki) would break a long caption into several rows.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ITEM_BYTES))
    start, file = opened_text(file, fields.path, HEAD_BYTES)
    if _JSON.match(start):
        format = "jsonl" if _JSON_LINE.match(start) else "json"
        advice = fields.advice("format", format, "; to read it as such, add ")
        raise CaptionSourceError(f"{fields.path}: it is JSON, and no table{advice}")
    if (named := _DELIMITER_LINE.match(start)) is not None:
        mark = fields.table.delimiter or named[1].decode()
        fields = replace(fields, table=fields.table._replace(delimiter=mark))
        fields.note(f"the first line names the delimiter, {mark!r}")
        start = start[named.end() :]
        file.read(named.end())
    form = form_of(Head.of(start), fields, usual)
    if form is None:
        return
    no_quotes = fields.advice("quoting", False, "; if quotes belong to the texts, add ")
    if form.quoted and b'\\"' in start:
        no_quotes = '; where a quote is written \\", write it twice: ""'
    # An undecodable byte must spoil its own row only: it is carried along as a lone surrogate.
    lines = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")
    above = 0 if named is None else 1
    yield from _records(form.reader(_bounded(lines)), form, fields, no_quotes, above)


def _bounded(lines: io.TextIOWrapper) -> Iterator[str]:
    """The lines; a field that the reader refuses stands for one that is too long."""
    readline = lines.readline
    while line := readline(_MAX_LINE_CHARS):
        if len(line) == _MAX_LINE_CHARS:
            while line and line[-1] not in "\r\n":
                line = readline(_MAX_LINE_CHARS)
            line = "-" * (csv.field_size_limit() + 1)
        yield line


def _records(
    reader: Any, form: TableForm, fields: Fields, no_quotes: str, above: int
) -> Iterator[Record]:
    """The records of a ``csv.reader`` of a table that is not empty.

    Args:
        reader: Of the table.
        form: Of it.
        fields: What to read.
        no_quotes: What is advised where quotes are in the way.
        above: Lines above the table.
    """
    columns = [form.column(name) for name in (form.text or fields.text, fields.id, fields.image)]
    width, last, is_header, quoted_texts = len(form.names), above, form.header, 0
    while True:
        first = last + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            last = above + reader.line_num
            problem = f"invalid CSV: {error}{no_quotes}"
            yield Record(_lines(first, last), problem=problem, size=last - first + 1)
            continue
        if row is None:
            break
        last = above + reader.line_num
        where = first if last <= first else _lines(first, last)
        if is_header:
            is_header = not row  # blank lines may come before it
        elif not row:
            yield Record(where, "")
        elif len(row) != width:
            first_row = "header" if form.header else "first row"
            problem = f"{len(row)} columns, but the {first_row} has {width}"
            yield Record(where, problem=problem, size=last - first + 1)
        elif last > first and _holds_rows(row, form.delimiter):
            problem = f"a field in quotes holds what looks like rows of the table{no_quotes}"
            yield Record(where, problem=problem, size=last - first + 1)
        else:
            texts = ["" if index is None else row[index] for index in columns]
            quoted_texts += not form.quoted and has_doubled_quotes(texts[0])
            yield _record(where, *texts)
    if quoted_texts and fields.table.quoting is None:
        fields.warn(
            f"{quoted_texts} captions stand in double quotes, with others written twice in them"
            + fields.advice("quoting", True, "; to take them off, add ")
        )


def _holds_rows(row: list[str], delimiter: str) -> bool:
    """Whether a field of several lines holds rows of the table, as after a stray quote.

    It does if each of its further lines starts with a number as the row does, if there are
    several that all have the delimiters of a row, or if its lines are the end of a row, whole rows
    and the beginning of one, with the codes where this row has them.
    """
    others = len(row) - 1
    for column, cell in enumerate(row):
        _, *lines = _LINE_END.split(cell)
        if not lines or not others:
            continue
        if row[0].isdecimal() and all(_starts_numbered(line, delimiter) for line in lines):
            return True
        rows = [line.count(delimiter) == others for line in lines[:-1]]
        if all(rows) and (
            len(rows) >= _MAX_ROWS_IN_FIELD or _are_rows(cell, column, row, delimiter)
        ):
            return True
    return False


def _are_rows(cell: str, column: int, row: list[str], delimiter: str) -> bool:
    """Whether the lines of a field, put where they would stand, have a row's columns and kinds."""
    first, *inner, last = (line.split(delimiter) for line in _LINE_END.split(cell))
    if len(first) != len(row) - column or len(last) != column + 1:
        return False
    codes = [n for n, one in enumerate(row) if n != column and _CODE.fullmatch(one)]
    cells = {n: [one[n] for one in inner] for n in range(len(row))}
    for n in codes:
        cells[n] += [first[n - column]] if n > column else [last[n]]
    if codes:
        return all(_CODE.fullmatch(one) for n in codes for one in cells[n])
    return bool(inner) and not any(f"{delimiter} " in line for line in _LINE_END.split(cell))


def _starts_numbered(line: str, delimiter: str) -> bool:
    return line.partition(delimiter)[0].strip('"').isdecimal() and delimiter in line


def _record(where: int | str, text: str, identity: str, image: str) -> Record:
    together = text + identity + image
    if not is_utf8(together):
        return Record(where, problem=INVALID_UTF8)
    if "\0" in together:
        return Record(where, problem="NUL byte")
    return Record(where, text, identity, None, image)


def _lines(first: int, last: int) -> str:
    return f"line {first}" if last <= first else f"lines {first}-{last}"
