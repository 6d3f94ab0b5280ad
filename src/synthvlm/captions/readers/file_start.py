"""What a file of text begins with: a byte order mark, or the marks of something else than text."""

from __future__ import annotations

import io
import shlex
from typing import Any, BinaryIO

from synthvlm.errors import CaptionSourceError

__all__ = ["INVALID_UTF8", "UTF8_MARK", "opened_text", "without_mark"]

#: The problem of a text that cannot be decoded.
INVALID_UTF8 = (
    "invalid UTF-8; if the file is in Latin-1, convert it: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
)

_BUFFER_BYTES = 1 << 16
#: Of a file, to see what it is.
_LEAST = 1024
UTF8_MARK = b"\xef\xbb\xbf"
#: How other files than texts begin, and what to do with them; {} is the path.
_OTHER_FILES = (
    (b"PAR1", "is a Parquet file: rename it to {}.parquet"),
    (b"PK\x03\x04", "is an Excel file or a zip archive: save it as CSV in UTF-8, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "is an old Excel or Word file: save it as CSV or text in UTF-8"),
    (b"%PDF-", "is a PDF file: save its text in UTF-8"),
    (b"SQLite format 3\0", "is an SQLite database: export its captions as CSV"),
    (b"\x89PNG", "is a picture: name the file of captions"),
    (b"\xff\xd8\xff", "is a picture: name the file of captions"),
    (b"\x89HDF", "is an HDF5 file: save its captions as JSON lines"),
    (b"\x93NUMPY", "is a NumPy array: save its captions as JSON lines"),
    (b"ARROW1", "is an Arrow file: save it as Parquet"),
    (b"\x1f\x8b\x08", "is compressed within another compression: decompress it once"),
    (b"7z\xbc\xaf", "is a 7z archive: unpack it"),
    (b"Rar!", "is a RAR archive: unpack it"),
    (b"version https://git-lfs.github.com/", "is a Git LFS pointer: run git lfs pull"),
)
_PICKLES = tuple(bytes([0x80, version]) for version in (2, 3, 4, 5))
_WEB_PAGES = (b"<!doctype html", b"<html")


def without_mark(start: bytes, path: str) -> bytes:
    """The start of a text file without its byte order mark.

    Args:
        start: The first bytes, some hundred or more unless the file is shorter.
        path: Of the file, for messages.

    Raises:
        CaptionSourceError: The file is no text, or in UTF-16 or UTF-32.
    """
    for encoding, marks in (
        ("UTF-32", (b"\xff\xfe\0\0", b"\0\0\xfe\xff")),
        ("UTF-16", (b"\xff\xfe", b"\xfe\xff")),
    ):
        if start.startswith(marks):
            raise _in_utf16(path, encoding)
    # UTF-16 of letters of Europe has a zero in every other byte, and no text has as many.
    pairs = start[:1000]
    for odd, encoding in ((1, "UTF-16LE"), (0, "UTF-16BE")):
        zeros = pairs[odd::2].count(0)
        if zeros > len(pairs) // 4 and not pairs[1 - odd :: 2].count(0):
            raise _in_utf16(path, encoding)
    for mark, advice in _OTHER_FILES:
        if start.startswith(mark):
            raise CaptionSourceError(f"{path} {advice.format(path)}")
    if start.startswith(_PICKLES):
        raise CaptionSourceError(f"{path} is a pickle, which is never read: save it as JSON lines")
    if start[:200].lstrip().lower().startswith(_WEB_PAGES):
        raise CaptionSourceError(f"{path} is a web page: download the file of captions itself")
    if start[257:262] == b"ustar":
        raise CaptionSourceError(f"{path} is a tar archive: rename it to {path}.tar, or unpack it")
    return start.removeprefix(UTF8_MARK)


def opened_text(file: BinaryIO, path: str, size: int) -> tuple[bytes, BinaryIO]:
    """The first bytes of a text file, and the whole of it, a byte order mark left out.

    Args:
        file: The file; whoever opened it closes it.
        path: Of it, for messages.
        size: How many bytes.

    Raises:
        CaptionSourceError: As ``without_mark``.
    """
    start = without_mark(file.read(max(size, _LEAST)), path)
    return start, io.BufferedReader(_Whole(start, file), _BUFFER_BYTES)


class _Whole(io.RawIOBase):
    """A file of which the start was read."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self._start, self._rest = start, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._start[: len(buffer)] or self._rest.read(len(buffer))
        self._start = self._start[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


def _in_utf16(path: str, encoding: str) -> CaptionSourceError:
    return CaptionSourceError(
        f"{path} is {encoding}; save the file as UTF-8: "
        f"iconv -f {encoding} -t UTF-8 {shlex.quote(path)} > NEW"
    )
