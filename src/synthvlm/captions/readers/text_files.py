"""Text files of a caption, a JSON object or an image's name and a caption in each line."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO, NamedTuple

from synthvlm.captions.readers.file_start import INVALID_UTF8, opened_text
from synthvlm.captions.readers.json_values import parse_json
from synthvlm.captions.readers.objects import records_of_object
from synthvlm.captions.readers.records import (
    DEFAULT_TEXT,
    MAX_ITEM_BYTES,
    Fields,
    Record,
    TableOptions,
)
from synthvlm.captions.readers.table_form import HEAD_BYTES
from synthvlm.captions.readers.tables import read_table

__all__ = ["LineForm", "line_form", "read_flickr", "read_jsonl", "read_txt"]

_CHUNK_BYTES = 1 << 18
_TOO_LONG = f"the line is longer than {MAX_ITEM_BYTES >> 20} MiB"
#: A line of Flickr8k.token.txt: the image, the number of its caption, the caption.
_TOKEN = re.compile(rb"([^\t\n]+\.\w{1,5})#(\d+)\t(.*)", re.DOTALL)
#: The same, with blanks in the place of the tab.
_SPACED_TOKEN = re.compile(rb"(\S+\.\w{1,5})#(\d+)[ \t]+(.*)", re.DOTALL)
#: The columns of Flickr8k's captions.txt and Flickr30k's results.csv.
_FLICKR_NAMES = re.compile(
    rb"image(_name)?[,|] ?(comment_number[,|] ?)?(caption|comment)", re.IGNORECASE
)
#: What begins a line below such a header.
_IMAGE_NAME = re.compile(rb'"?[^\s,|"]+\.(jpe?g|png)"?\s*[,|]', re.IGNORECASE)


class LineForm(NamedTuple):
    """How a text file is written.

    Attributes:
        returns: Whether a carriage return alone ends a line, as on old Macintoshes.
        is_flickr: Whether its lines are captions of Flickr8k or Flickr30k as published.
        columns: The columns of such captions in a table.
        delimiter: Between them.
    """

    returns: bool = False
    is_flickr: bool = False
    columns: tuple[str, ...] = ()
    delimiter: str = ","


def line_form(start: bytes) -> LineForm:
    """How a text file is written, given its first ``HEAD_BYTES``."""
    text = _with_line_feeds(start)
    # A few of them are stray ones within captions; the last may go on as the end of a line.
    returns = 10 * (text.count(b"\r") - text.endswith(b"\r")) > text.count(b"\n")
    lines = (text.replace(b"\r", b"\n") if returns else text).split(b"\n")
    if len(start) >= HEAD_BYTES - 3:
        lines.pop()
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
        return LineForm(returns)
    if not _FLICKR_NAMES.fullmatch(lines[0]):
        return LineForm(returns, all(map(_TOKEN.fullmatch, lines)))
    delimiter = "|" if b"|" in lines[0] else ","
    columns = tuple(name.strip() for name in lines[0].decode().split(delimiter))
    is_flickr = len(lines) > 1 and all(map(_IMAGE_NAME.match, lines[1:]))
    return LineForm(returns, is_flickr, columns, delimiter)


def _with_line_feeds(text: bytes) -> bytes:
    """Text in which a line feed ends lines that end in one after any carriage returns."""
    while b"\r\n" in text:
        text = text.replace(b"\r\n", b"\n")
    return text


def read_txt(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """A caption a line; a file of Flickr8k or Flickr30k is recognised."""
    start, file = opened_text(file, fields.path, HEAD_BYTES)
    form = line_form(start)
    if form.returns:
        fields.note("lines end in a carriage return")
    if form.is_flickr:
        fields.note("it holds names of images and captions, as Flickr8k does: read as flickr")
        yield from _flickr_records(file, fields, form)
        return
    if fields.text not in ("", DEFAULT_TEXT):
        fields.warn(
            f"a line is a caption here, and the text field {fields.text!r} of no use"
            + fields.advice("format", "tsv", "; if this is a table, add ")
        )
    for first, lines in _line_blocks(file, form.returns):
        for number, line in enumerate(lines, first):
            if line is None:
                yield Record(number, problem=_TOO_LONG)
                continue
            try:
                yield Record(number, line.decode("utf-8"))
            except UnicodeDecodeError:
                yield Record(number, problem=INVALID_UTF8)


def read_flickr(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """Captions of Flickr8k or Flickr30k as published.

    Either ``Flickr8k.token.txt``, which has ``IMAGE#N<TAB>CAPTION`` in each line, or a table of
    the columns ``image`` or ``image_name``, ``comment_number`` (if there) and ``caption`` or
    ``comment``. The id is ``IMAGE#N``; the original image, ``IMAGE``.
    """
    start, file = opened_text(file, fields.path, HEAD_BYTES)
    yield from _flickr_records(file, fields, line_form(start))


def _flickr_records(file: BinaryIO, fields: Fields, form: LineForm) -> Iterator[Record]:
    if form.columns:
        yield from _flickr_rows(file, fields, form)
        return
    for first, lines in _line_blocks(file, form.returns):
        for number, line in enumerate(lines, first):
            parts = None
            if line is not None:
                parts = _TOKEN.fullmatch(line) or _SPACED_TOKEN.fullmatch(line)
            if parts is None:
                yield Record(
                    number, problem="it is not IMAGE#NUMBER, a tab or blanks, and a caption"
                )
                continue
            try:
                image, count, text = (part.decode("utf-8") for part in parts.groups())
            except UnicodeDecodeError:
                yield Record(number, problem=INVALID_UTF8)
            else:
                yield Record(number, text, f"{image}#{count}", image=image)


def _flickr_rows(file: BinaryIO, fields: Fields, form: LineForm) -> Iterator[Record]:
    """The rows of a table, ids put together of the image and the number of its caption."""
    image, *numbers, text = form.columns
    # The number is read in the place of an original image.
    number = numbers[0] if numbers else image
    table = TableOptions(True, form.delimiter, quoting=form.delimiter == ",")
    asked = replace(fields, text=text, id=image, image=number, image_required=True, table=table)
    counts: Counter[str] = Counter()
    for record in read_table(file, asked, ","):
        if record.problem is None and record.id:
            name, order = str(record.id).strip(), str(record.image).strip()
            if not numbers:
                order, counts[name] = str(counts[name]), counts[name] + 1
            record = record._replace(id=f"{name}#{order}", image=name)
        yield record


def read_jsonl(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """A JSON object a line; in JSON, a carriage return alone can only end a line, too."""
    _, file = opened_text(file, fields.path, 0)
    for first, lines in _line_blocks(file, returns=True):
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
                    if line.rstrip().endswith(b","):
                        problem = "the line ends in a comma: remove it (sed 's/,[[:space:]]*$//')"
                    yield Record(number, problem=problem)


def _line_blocks(file: BinaryIO, returns: bool = False) -> Iterator[tuple[int, list[bytes | None]]]:
    """The lines of a file without their ends, many at a time, and the number of the first.

    None stands for a line that is too long. What follows the last line end is a line unless empty.

    Args:
        file: A text file without a byte order mark.
        returns: Whether a carriage return alone ends a line, too.
    """
    number, rest, too_long = 1, b"", False
    while chunk := file.read(_CHUNK_BYTES):
        if returns:
            while chunk.endswith(b"\r") and (more := file.read(1)):  # a line feed may come
                chunk += more
            chunk = _with_line_feeds(chunk).replace(b"\r", b"\n")
        if too_long and b"\n" not in chunk:  # decompressed, a line can have gigabytes
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
    if rest or too_long:
        yield number, [None if too_long else rest.removesuffix(b"\r")]
