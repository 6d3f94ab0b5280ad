"""Text files of one caption or one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import orjson

from synthvlm.captions.readers.records import (
    MAX_ITEM_BYTES,
    Fields,
    Record,
    record_of_object,
    without_mark,
)

__all__ = ["read_jsonl", "read_txt"]

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
    loads = orjson.loads
    for first, lines in _line_blocks(file, fields.path):
        for number, line in enumerate(lines, first):
            try:
                yield record_of_object(number, loads(line or b""), fields)
            except orjson.JSONDecodeError as error:
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
