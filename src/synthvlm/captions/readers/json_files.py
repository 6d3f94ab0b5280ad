"""Captions in one JSON document: a list of objects, COCO captions, LLaVA conversations.

Large lists are read as a stream: cut between items by their brackets, parsed by ``orjson``. Not by
``ijson``: its default backend crashes the process on an integer of more than 4,300 digits, takes
memory quadratic in the depth of nesting, and turns a lone surrogate into a question mark.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import replace
from typing import Any, BinaryIO

import orjson

from synthvlm.captions.readers.records import (
    MAX_ITEM_BYTES,
    Fields,
    Record,
    record_of_object,
    without_mark,
)
from synthvlm.errors import CaptionSourceError

__all__ = [
    "items_of_document",
    "items_of_list",
    "items_of_lists",
    "read_coco",
    "read_json",
    "read_llava",
]


def read_json(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """A list of objects, or an object with one such list, as VQAv2's files of questions are."""
    for number, value in enumerate(items_of_document(file, fields.path), 1):
        yield record_of_object(number, value, fields)


def read_llava(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """A list of LLaVA conversations; the caption is the first answer (``from: gpt``)."""
    fields = replace(fields, text="conversations")
    for number, value in enumerate(items_of_list(file, fields.path), 1):
        record = record_of_object(number, value, fields)
        if record.problem is None and fields.image is None:
            record = record._replace(**_first_answer(record.text))
        yield record


def _first_answer(conversations: object) -> dict[str, Any]:
    for turn in conversations if isinstance(conversations, list) else ():
        if isinstance(turn, dict) and turn.get("from") == "gpt":
            text = turn.get("value")
            if isinstance(text, str):
                return {"text": text}
            return {"text": None, "problem": "the first turn from 'gpt' has no text"}
    return {"text": None, "problem": "'conversations' has no turn from 'gpt'"}


def read_coco(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """COCO captions, an annotation a row; ``fields.image`` is a field of the image's entry.

    Where images are asked for, the image of every image id is held in memory, and the file is
    read twice: the annotations may come first.
    """
    images: dict[Any, Record] = {}
    if fields.image is not None:
        images = _coco_images(file, fields)
        file.seek(0)
    number = 0
    for _, annotation in items_of_lists(file, fields.path, {"annotations"}):
        number += 1
        if fields.image is None or not isinstance(annotation, dict):
            yield record_of_object(number, annotation, fields)
        elif fields.wants(number - 1):
            key = annotation.get("image_id")
            image = images.get(key) if isinstance(key, int | str) else None
            missing = Record(0, problem=f"there is no image with the id {str(key)[:80]!r}")
            yield (image or missing)._replace(where=number)
        else:
            yield Record(number)
    if not number:
        raise CaptionSourceError(f"{fields.path}: there is no list 'annotations' of COCO captions")


def _coco_images(file: BinaryIO, fields: Fields) -> dict[Any, Record]:
    """For each image id, a record of its image or of the problem with it."""
    images: dict[Any, Record] = {}
    for _, image in items_of_lists(file, fields.path, {"images"}):
        if not isinstance(image, dict) or not isinstance(key := image.get("id"), int | str):
            continue  # no annotation can name it
        record = record_of_object(0, image, fields)
        if images.setdefault(key, record) != record:
            problem = f"there are several images with the id {str(key)[:80]!r}"
            images[key] = Record(0, problem=problem)
    return images


_CHUNK_BYTES = 1 << 18
#: Of an object of lists; one of millions of keys is something else, and would take hours.
_MAX_KEYS = 1000
_SPACE = b" \t\r\n"
#: A key of an object, to the first byte of its value.
_KEY = re.compile(rb'[ \t\r\n]*("(?:[^"\\]|\\.)*")[ \t\r\n]*:[ \t\r\n]*(?=[^ \t\r\n])', re.DOTALL)


def items_of_list(file: BinaryIO, path: str) -> Iterator[Any]:
    """The items of a file that is one JSON list.

    Raises:
        CaptionSourceError: It is not, or not to its end; the message names line and column.
    """
    buffer = _Buffer(file, path)
    buffer.expect_start(b"[", "a JSON list of objects")
    yield from _items(buffer)
    buffer.expect_end()


def items_of_document(file: BinaryIO, path: str) -> Iterator[Any]:
    """The items of a file that is one JSON list, or one JSON object with one list in it.

    Raises:
        CaptionSourceError: It is neither, or not to its end; the message names line and column.
    """
    start = file.read(_CHUNK_BYTES)
    file.seek(0)
    if without_mark(start, path).lstrip(_SPACE)[:1] != b"{":
        yield from items_of_list(file, path)
        return
    list_key: str | None = None
    for key, item in items_of_lists(file, path, _Everything()):
        if list_key is not None and key != list_key:
            raise CaptionSourceError(
                f"{path}: the object holds several lists, {list_key!r} and {key!r}; if these are "
                f"COCO captions, set format to coco"
            )
        list_key = key
        yield item
    if list_key is None:
        raise CaptionSourceError(
            f"{path}: expected a JSON list of objects, or an object with one; if it is an object a "
            f"line, set format to jsonl"
        )


class _Everything:
    """Holds any key."""

    def __contains__(self, key: object) -> bool:
        return True


def items_of_lists(file: BinaryIO, path: str, keys: Container[str]) -> Iterator[tuple[str, Any]]:
    """The items of some lists of a file that is one JSON object, in order, each with its key.

    Values of other keys are read over; a value that is no list counts as one without items.

    Raises:
        CaptionSourceError: It is not, or not to its end; the message names line and column.
    """
    buffer = _Buffer(file, path)
    buffer.expect_start(b"{", "a JSON object")
    number = 0
    while buffer.peek() != b"}":
        key = _key(buffer)
        number += 1
        if number > _MAX_KEYS:
            raise CaptionSourceError(f"{path}: the JSON object has more than {_MAX_KEYS:,} keys")
        if buffer.peek() == b"[":
            buffer.consume(1)
            for item in _items(buffer):
                if key in keys:
                    yield key, item
        else:
            _skip_value(buffer)
        if buffer.peek() == b",":
            buffer.consume(1)
            if buffer.peek() == b"}":
                raise buffer.damaged("trailing comma")
        elif buffer.peek() != b"}":
            raise buffer.damaged("expected , or }")
    buffer.consume(1)
    buffer.expect_end()


class _Buffer:
    """The part of a file that is not consumed yet, and the place where it starts."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file, self._path = file, path
        self._line, self._column = 1, 1
        self.data = without_mark(file.read(_CHUNK_BYTES), path)

    def more(self) -> None:
        """Read on; the amount doubles, so that looking again from the start costs little."""
        if len(self.data) > MAX_ITEM_BYTES:
            raise self.damaged(f"an item is longer than {MAX_ITEM_BYTES >> 20} MiB, or never ends")
        chunk = self._file.read(max(_CHUNK_BYTES, len(self.data)))
        if not chunk:
            self.consume(len(self.data))
            raise self.damaged("unexpected end of data")
        self.data += chunk

    def consume(self, count: int) -> None:
        self._line, self._column = self._place(count)
        self.data = self.data[count:]

    def peek(self) -> bytes:
        """The first byte that is no white space; b"" at the end of the file."""
        while True:
            self.consume(len(self.data) - len(self.data.lstrip(_SPACE)))
            if self.data:
                return self.data[:1]
            self.data = self._file.read(_CHUNK_BYTES)
            if not self.data:
                return b""

    def expect_start(self, bracket: bytes, kind: str) -> None:
        if not self.peek():
            raise self.damaged("the file is empty")
        if self.peek() != bracket:
            hint = "; if it is an object a line, set format to jsonl, if COCO captions, to coco"
            raise CaptionSourceError(
                f"{self._path}: expected {kind}{hint if self.peek() == b'{' else ''}"
            )
        self.consume(1)

    def expect_end(self) -> None:
        if self.peek():
            raise self.damaged("unexpected content after the end")

    def damaged(self, problem: str, at: int = 0) -> CaptionSourceError:
        line, column = self._place(at)
        where = f"{self._path}, line {line}, column {column}"
        return CaptionSourceError(f"{where}: invalid JSON: {problem}")

    def _place(self, offset: int) -> tuple[int, int]:
        """Line and column (in bytes) of an offset into the data, both from 1."""
        lines = self.data.count(b"\n", 0, offset)
        if not lines:
            return self._line, self._column + offset
        return self._line + lines, offset - self.data.rfind(b"\n", 0, offset)


def _items(buffer: _Buffer) -> Iterator[Any]:
    """The items of a list that starts behind its bracket; consumes its end."""
    first = True
    while True:
        commas, end = _cuts(buffer.data)
        if end is None and commas is None:
            buffer.more()
            continue
        cut = end if end is not None else commas
        assert cut is not None
        items = _parsed(buffer, cut)
        if not items and not (first and end is not None):
            raise buffer.damaged("expected a value", cut)
        yield from items
        closing = buffer.data[cut : cut + 1]
        if closing == b"}":
            raise buffer.damaged("expected , or ]", cut)
        buffer.consume(cut + 1)
        if end is not None:
            return
        first = False


def _parsed(buffer: _Buffer, end: int) -> list[Any]:
    piece = buffer.data[:end]
    try:
        items: list[Any] = orjson.loads(b"[%b]" % piece)
    except orjson.JSONDecodeError as error:
        try:
            text = piece.decode("utf-8")
        except UnicodeDecodeError as not_text:
            raise buffer.damaged("invalid UTF-8", not_text.start) from error
        # Its position counts characters and our bracket.
        offset = len(text[: max(error.pos - 1, 0)].encode())
        raise buffer.damaged(error.msg, offset) from error
    return items


def _skip_value(buffer: _Buffer) -> None:
    """Consume a value of an object that is no list, unparsed, up to the comma or brace behind."""
    while True:
        comma, end = _cuts(buffer.data, last=False)
        ends = [cut for cut in (comma, end) if cut is not None]
        if ends:
            if not _parsed(buffer, min(ends)):
                raise buffer.damaged("expected a value")
            buffer.consume(min(ends))
            return
        buffer.more()


def _key(buffer: _Buffer) -> str:
    buffer.peek()
    while not (match := _KEY.match(buffer.data)):
        if not buffer.data.startswith(b'"'):
            raise buffer.damaged("expected a key in double quotes")
        buffer.more()
    try:
        key: str = orjson.loads(match[1])
    except orjson.JSONDecodeError as error:
        raise buffer.damaged(error.msg) from error
    buffer.consume(match.end())
    return key


def _cuts(data: bytes, last: bool = True) -> tuple[int | None, int | None]:
    """Where data that starts between two tokens of a list or object can be cut.

    Returns:
        Offset of the last (or first) comma of this level, and of the bracket that closes it.
    """
    import numpy as np

    # A backslash takes the byte behind it along; there are none outside of strings.
    if b"\\" in data:
        data = data.replace(rb"\\", b"__").replace(rb"\"", b"__")
    codes = np.frombuffer(data, np.uint8)
    # In ASCII, the bit 32 is what square and curly brackets differ in.
    outside = ~np.logical_xor.accumulate(codes == ord('"'))
    opens = ((codes | 32) == ord("{")) & outside
    closes = ((codes | 32) == ord("}")) & outside
    depth = np.cumsum(opens.view(np.int8) - closes.view(np.int8), dtype=np.int32)
    ends = np.flatnonzero(depth < 0)
    end = int(ends[0]) if len(ends) else None
    level = slice(end)
    commas = np.flatnonzero((codes[level] == ord(",")) & (depth[level] == 0) & outside[level])
    return (int(commas[-1 if last else 0]) if len(commas) else None), end
