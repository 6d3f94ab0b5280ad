"""Text files of a caption, a JSON object or a row of a table in each line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from synthvlm.captions.readers.json_values import parse_json
from synthvlm.captions.readers.objects import records_of_object
from synthvlm.captions.readers.records import (
    MAX_ITEM_BYTES,
    Fields,
    Record,
    without_mark,
)
from synthvlm.errors import CaptionSourceError

__all__ = ["read_csv", "read_jsonl", "read_tsv", "read_txt"]

_CHUNK_BYTES = 1 << 18
_TOO_LONG = f"the line is longer than {MAX_ITEM_BYTES >> 20} MiB"


def read_txt(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """A caption a line."""
    for first, lines in _line_blocks(file, fields.path):
        for number, line in enumerate(lines, first):
            if line is None:
                yield Record(number, problem=_TOO_LONG)
                continue
            try:
                yield Record(number, line.decode("utf-8"))
            except UnicodeDecodeError:
                yield Record(number, problem="invalid UTF-8")


def read_jsonl(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """A JSON object a line."""
    for first, lines in _line_blocks(file, fields.path):
        for number, line in enumerate(lines, first):
            try:
                yield from records_of_object(number, parse_json(line or b"", fields.names), fields)
            except json.JSONDecodeError as error:
                if line is None:
                    yield Record(number, problem=_TOO_LONG)
                elif not line.strip():
                    yield Record(number, "")
                else:
                    problem = f"invalid JSON: {error.msg} (column {error.colno})"
                    yield Record(number, problem=problem)


def _line_blocks(file: BinaryIO, path: str) -> Iterator[tuple[int, list[bytes | None]]]:
    """The lines of a file without their ends, many at a time, and the number of the first.

    None stands for a line that is too long. What follows the last line end is a line unless empty.
    """
    number, rest, too_long = 1, b"", False
    chunk = without_mark(file.read(_CHUNK_BYTES), path)
    while chunk:
        if too_long and b"\n" not in chunk:  # decompressed, a line can have gigabytes
            chunk = file.read(_CHUNK_BYTES)
            continue
        block, end, rest = (rest + chunk).replace(b"\r\n", b"\n").rpartition(b"\n")
        if end:
            lines: list[bytes | None] = [*block.split(b"\n")]
            if too_long:
                lines[0], too_long = None, False
            yield number, lines
            number += len(lines)
        if len(rest) > MAX_ITEM_BYTES:
            rest, too_long = b"", True
        chunk = file.read(_CHUNK_BYTES)
    if rest or too_long:
        yield number, [None if too_long else rest.removesuffix(b"\r")]


#: Several fields may stand in a line; decompressed, one can have gigabytes.
_MAX_LINE_CHARS = 2 * MAX_ITEM_BYTES


def read_csv(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """Comma-separated and quoted. Strict: a stray quote is a bad row, not a guess."""
    return _read_table(file, fields, lambda lines: csv.reader(lines, strict=True))


def read_tsv(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """Tab-separated and never quoted."""
    return _read_table(
        file, fields, lambda lines: csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    )


def _read_table(
    file: BinaryIO, fields: Fields, make_reader: Callable[[Iterable[str]], Any]
) -> Iterator[Record]:
    # The module's own limit (128 Ki) would break a long caption into several rows.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ITEM_BYTES))
    # An undecodable byte must spoil its own row only: it is carried along as a lone surrogate.
    lines = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _records(make_reader(_bounded(lines)), fields)
    finally:
        lines.detach()  # whoever opened the file closes it


def _bounded(lines: io.TextIOWrapper) -> Iterator[str]:
    """The lines; a field that the reader refuses stands for one that is too long."""
    readline = lines.readline
    while line := readline(_MAX_LINE_CHARS):
        if len(line) == _MAX_LINE_CHARS:
            while line and line[-1] not in "\r\n":
                line = readline(_MAX_LINE_CHARS)
            line = "-" * (csv.field_size_limit() + 1)
        yield line


def _records(reader: Any, fields: Fields) -> Iterator[Record]:
    """The records of a ``csv.reader``, the first row of which is the header."""
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise CaptionSourceError(f"{fields.path}, line 1: invalid header: {error}") from error
    if header is None:
        return
    if not _is_utf8("".join(header)):
        raise CaptionSourceError(f"{fields.path}, line 1: invalid UTF-8; save the file as UTF-8")
    fields.check(header)
    columns = [
        header.index(name) if name in header else None
        for name in (fields.text, fields.id, fields.image)
    ]
    width, last = len(header), reader.line_num
    while True:
        first = last + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            last = reader.line_num
            yield Record(_lines(first, last), problem=f"invalid CSV: {error}")
            continue
        if row is None:
            return
        last = reader.line_num
        where = first if last <= first else _lines(first, last)
        if not row:
            yield Record(where, "")
        elif len(row) != width:
            yield Record(where, problem=f"{len(row)} columns, but the header has {width}")
        else:
            yield _record(where, *("" if index is None else row[index] for index in columns))


def _record(where: int | str, text: str, identity: str, image: str) -> Record:
    together = text + identity + image
    if not _is_utf8(together):
        return Record(where, problem="invalid UTF-8")
    if "\0" in together:
        return Record(where, problem="NUL byte")
    return Record(where, text, identity, None, image)


def _lines(first: int, last: int) -> str:
    return f"line {first}" if last <= first else f"lines {first}-{last}"


def _is_utf8(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
