"""Large JSON documents as a stream: cut between items by their brackets, then parsed.

Not by ``ijson``: its default backend crashes the process on an integer of more than 4,300 digits,
takes memory quadratic in the depth of nesting, and turns a lone surrogate into a question mark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from synthvlm.captions.readers.file_start import without_mark
from synthvlm.captions.readers.json_values import NO_NAMES, parse_json, parse_pairs
from synthvlm.captions.readers.records import MAX_ITEM_BYTES
from synthvlm.errors import CaptionSourceError

__all__ = ["MAX_KEYS", "SPACE", "Member", "items_of_list", "members", "pairs_of_object"]

_CHUNK_BYTES = 1 << 18
#: Of an object of lists; one of millions of keys is something else, and would take hours.
MAX_KEYS = 1000
SPACE = b" \t\r\n"
#: A key of an object, to the first byte of its value.
_KEY = re.compile(rb'[ \t\r\n]*("(?:[^"\\]|\\.)*")[ \t\r\n]*:[ \t\r\n]*(?=[^ \t\r\n])', re.DOTALL)


def items_of_list(
    file: BinaryIO, path: str, names: Mapping[str, bytes] = NO_NAMES
) -> Iterator[Any]:
    """The items of a file that is one JSON list.

    Args:
        file: The file.
        path: Of it, for messages.
        names: As in ``parse_json``.

    Raises:
        CaptionSourceError: It is not, or not to its end; the message names line and column.
    """
    buffer = _Buffer(file, path)
    buffer.expect_start(b"[", "a JSON list of objects")
    yield from _items(buffer, names)
    buffer.expect_end()


def pairs_of_object(file: BinaryIO, path: str) -> Iterator[tuple[str, Any]]:
    """The keys and values of a file that is one JSON object of any number of small values.

    Raises:
        CaptionSourceError: It is not, or not to its end; the message names line and column.
    """
    buffer = _Buffer(file, path)
    buffer.expect_start(b"{", "a JSON object")
    yield from _pairs(buffer)
    buffer.expect_end()


class Member:
    """A member of an object that is being read; what is not taken of it is read over.

    Attributes:
        key: Its name.
        kind: ``list``, ``object`` or ``value``.
    """

    def __init__(self, key: str, buffer: _Buffer, names: Mapping[str, bytes]) -> None:
        """Take the buffer at the start of the value."""
        self.key, self.kind = key, {b"[": "list", b"{": "object"}.get(buffer.peek(), "value")
        self._buffer, self._names = buffer, names
        self._reading: Iterator[Any] | None = None

    def items(self) -> Iterator[Any]:
        """The items of a list; once begun, the same iterator."""
        if self._reading is None:
            self._buffer.consume(1)
            self._reading = _items(self._buffer, self._names)
        return self._reading

    def pairs(self) -> Iterator[tuple[str, Any]]:
        """The keys and values of an object."""
        self._buffer.consume(1)
        self._reading = _pairs(self._buffer)
        return self._reading

    def value(self) -> Any:
        """The whole value, which must be small."""
        self._reading = iter(())
        return _value(self._buffer)

    def finish(self) -> None:
        """Read over what was not taken."""
        if self._reading is None and self.kind != "list":
            _value(self._buffer)
            return
        for _ in self.items():
            pass


def members(file: BinaryIO, path: str, names: Mapping[str, bytes] = NO_NAMES) -> Iterator[Member]:
    """The members of a file that is one JSON object, in order; each is valid until the next.

    Args:
        file: The file.
        path: Of it, for messages.
        names: As in ``parse_json``.

    Raises:
        CaptionSourceError: It is not, or not to its end (the message names line and column), or
            two of its members have one name.
    """
    buffer = _Buffer(file, path)
    buffer.expect_start(b"{", "a JSON object")
    keys = set()
    while buffer.peek() != b"}":
        key = _key(buffer)
        if key in keys:
            raise CaptionSourceError(f"{path}: two members of the JSON object are named {key!r}")
        keys.add(key)
        if len(keys) > MAX_KEYS:
            raise CaptionSourceError(f"{path}: the JSON object has more than {MAX_KEYS:,} keys")
        member = Member(key, buffer, names)
        yield member
        member.finish()
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
            self.consume(len(self.data) - len(self.data.lstrip(SPACE)))
            if self.data:
                return self.data[:1]
            self.data = self._file.read(_CHUNK_BYTES)
            if not self.data:
                return b""

    def expect_start(self, bracket: bytes, kind: str) -> None:
        if not self.peek():
            raise self.damaged("the file is empty")
        if self.peek() != bracket:
            raise CaptionSourceError(f"{self._path}: expected {kind}")
        self.consume(1)

    def expect_end(self) -> None:
        if self.peek():
            raise self.damaged(
                "unexpected content after the end (of several values, write one a line)"
            )

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


def _items(buffer: _Buffer, names: Mapping[str, bytes]) -> Iterator[Any]:
    """The items of a list that starts behind its bracket; consumes its end."""
    return _pieces(buffer, b"[%b]", lambda text: parse_json(text, names))


def _pairs(buffer: _Buffer) -> Iterator[tuple[str, Any]]:
    """The keys and values of an object that starts behind its bracket; consumes its end."""
    return _pieces(buffer, b"{%b}", parse_pairs)


def _pieces(buffer: _Buffer, frame: bytes, parse: Callable[[bytes], list[Any]]) -> Iterator[Any]:
    """What stands between brackets, cut at commas and parsed in the same brackets."""
    first = True
    while True:
        commas, end = _cuts(buffer.data)
        if end is None and commas is None:
            buffer.more()
            continue
        cut = end if end is not None else commas
        assert cut is not None
        items = _parsed(buffer, cut, frame, parse)
        if not items and not (first and end is not None):
            raise buffer.damaged("expected a value", cut)
        yield from items
        closing = buffer.data[cut : cut + 1]
        if closing not in (b",", frame[-1:]):
            raise buffer.damaged(f"expected , or {frame[-1:].decode()}", cut)
        buffer.consume(cut + 1)
        if end is not None:
            return
        first = False


def _parsed(
    buffer: _Buffer, end: int, frame: bytes, parse: Callable[[bytes], list[Any]]
) -> list[Any]:
    piece = buffer.data[:end]
    try:
        return parse(frame % piece)
    except json.JSONDecodeError as error:
        # Its position counts characters and our bracket.
        text = piece.decode("utf-8", "surrogateescape")[: max(error.pos - 1, 0)]
        raise buffer.damaged(error.msg, len(text.encode("utf-8", "surrogateescape"))) from error


def _value(buffer: _Buffer) -> Any:
    """Consume a value of an object, up to the comma or brace behind it."""
    while True:
        comma, end = _cuts(buffer.data, last=False)
        ends = [cut for cut in (comma, end) if cut is not None]
        if ends:
            values = _parsed(buffer, min(ends), b"[%b]", parse_json)
            if not values:
                raise buffer.damaged("expected a value")
            buffer.consume(min(ends))
            return values[0]
        buffer.more()


def _key(buffer: _Buffer) -> str:
    buffer.peek()
    while not (match := _KEY.match(buffer.data)):
        if not buffer.data.startswith(b'"'):
            raise buffer.damaged("expected a key in double quotes")
        buffer.more()
    try:
        key: str = parse_json(match[1])
    except json.JSONDecodeError as error:
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
