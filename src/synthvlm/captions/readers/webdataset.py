"""WebDataset shards: tar archives whose files are grouped into samples by their key."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, BinaryIO, TypeVar

from synthvlm.captions.readers.images import MAX_IMAGE_BYTES
from synthvlm.captions.readers.json_values import AmbiguousObject, parse_json
from synthvlm.captions.readers.objects import records_of_object
from synthvlm.captions.readers.records import DEFAULT_TEXT, MAX_ITEM_BYTES, Fields, Record
from synthvlm.errors import CaptionSourceError

__all__ = ["IMAGE_EXTENSIONS", "read_objects", "read_webdataset"]

#: As WebDataset writes alternatives: the first that a sample has.
IMAGE_EXTENSIONS = "jpg;jpeg;png;webp"

#: WebDataset's own rule: the extension starts at the first dot of the file's name.
_NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)

#: Captions that few samples have more of, and no sample has to be read twice for.
_AHEAD = 16

#: A long name or a set of attributes; tarfile reads it as a whole.
_MAX_EXTENDED_HEADER = 1 << 20

# A sample is the run of members with one key: key, then extension, member.
_Member = tuple[str, str, tarfile.TarInfo]
_Row = TypeVar("_Row")


def read_webdataset(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """A sample a row, as a stream; names in the archive are keys and never become paths.

    The caption is the sample's ``.txt``, or the field ``fields.text`` of its ``.json``: of both,
    the ``.txt``, unless a field other than ``caption`` is named. An id is a field of the
    ``.json``, or the sample's key where the field is ``__key__``. ``fields.image`` are the
    extensions of the image. Files without a key or an extension belong to no sample.
    """

    def read(archive: tarfile.TarFile, key: str, members: Iterable[_Member], row: int) -> Any:
        return _read_sample(archive, key, members, row, fields)

    return _read_samples(file, fields.path, read)


def read_objects(file: BinaryIO, fields: Fields) -> Iterator[dict[str, Any]]:
    """The object in the ``.json`` of each row that ``read_webdataset`` gives; {} without one."""

    def read(archive: tarfile.TarFile, key: str, members: Iterable[_Member], row: int) -> Any:
        text = _Files(archive, MAX_ITEM_BYTES)
        for _, extension, header in members:
            if extension in ("txt", "json"):
                text.add(extension, header)
        if text.problem is not None:
            return [{}]
        records = _caption_records(_where(key), key, text.content, fields)
        try:
            value = parse_json(text.content.get("json", b"{}"))
        except json.JSONDecodeError:
            value = {}
        return [value if isinstance(value, dict) else {}] * len(records)

    return _read_samples(file, fields.path, read)


def _read_samples(
    file: BinaryIO,
    path: str,
    read: Callable[[tarfile.TarFile, str, Iterable[_Member], int], Sequence[_Row]],
) -> Iterator[_Row]:
    """What a function reads of each sample, given its key, its members and the next row."""
    place = "at its start"
    try:
        # The name is no file's: it only keeps tarfile from looking for one.
        with tarfile.TarFile(
            "", "r", fileobj=file, tarinfo=_Header, encoding="utf-8", errors="replace"
        ) as archive:
            row = 0
            for key, members in groupby(_members(archive), key=lambda member: member[0]):
                rows = read(archive, key, members, row)
                yield from rows
                row += len(rows)
                place = f"after {_where(key)}"
    # RecursionError: a chain of extended headers. The others: damaged attributes.
    except (tarfile.TarError, ValueError, IndexError, OverflowError, RecursionError) as error:
        raise CaptionSourceError(f"{path}, {place}: damaged archive: {error}") from error


class _Header(tarfile.TarInfo):
    """A header that does not claim nonsense."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        extended = header.type in (b"x", b"g", b"X", b"L", b"K")
        if header.size < 0 or (extended and header.size > _MAX_EXTENDED_HEADER):
            raise tarfile.ReadError("a header claims an impossible size")
        return header


def _members(archive: tarfile.TarFile) -> Iterator[_Member]:
    """The members that belong to samples, of all archives that the file holds one behind another.

    ``tarfile`` itself keeps all members in memory, takes an archive that was cut off, or goes on
    with garbage, for one that ends there, and sees no archive behind the first.
    """
    assert archive.fileobj is not None
    header = archive.next()
    if header is None:
        archive.fileobj.seek(archive.offset)
        header = _next_archive(archive)
    while header is not None:
        if not header.isdir() and (name := _NAME.fullmatch(header.name)):
            yield name[1], name[2].lower(), header
        before, position = header.offset, archive.offset
        if position <= before or header.size < 0:
            raise tarfile.ReadError("a header claims an impossible size")
        # The last byte must be there; archives are read forward.
        archive.fileobj.seek(position - 1)
        if not archive.fileobj.read(1):
            raise tarfile.ReadError("unexpected end of data")
        try:
            header = archive.tarinfo.fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            header = _next_archive(archive)
        except tarfile.EmptyHeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError("it was cut off: the end marker is missing") from error


def _next_archive(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
    """The first header behind the end of an archive: of one that was put behind it."""
    assert archive.fileobj is not None
    while block := archive.fileobj.read(tarfile.BLOCKSIZE):
        if block.count(0) == len(block):
            continue
        archive.fileobj.seek(archive.fileobj.tell() - len(block))
        try:
            return archive.tarinfo.fromtarfile(archive)
        except tarfile.HeaderError as error:
            raise tarfile.ReadError("behind its end is something else than an archive") from error
    return None


def _read_sample(
    archive: tarfile.TarFile, key: str, members: Iterable[_Member], row: int, fields: Fields
) -> Sequence[Record]:
    where = _where(key)
    texts = ["txt", "json"] if fields.image is None or fields.text else []
    names = fields.image.lower().split(";") if fields.image is not None else []
    # How many rows the sample has, its .json tells, which may come last.
    is_wanted = fields.wants(row + _AHEAD)
    text, image = _Files(archive, MAX_ITEM_BYTES), _Files(archive, MAX_IMAGE_BYTES)
    for _, extension, header in members:
        if extension in texts:
            text.add(extension, header)
        elif extension in names:
            image.add(extension, header, is_wanted)
    captions: Sequence[Record] = [Record(where, problem=text.problem)]
    if texts and text.problem is None:
        captions = _caption_records(where, key, text.content, replace(fields, image=None))
    if fields.image is None:
        return captions
    if not fields.wants(row + len(captions) - 1):
        return [Record(where)] * len(captions)
    image.complete()
    content = next((image.content[name] for name in names if name in image.content), None)
    problem = image.problem
    if content is None and problem is None and fields.image_required:
        problem = f"it has no .{fields.image}"
    return [Record(where, problem=problem, image=None if problem else content)] * len(captions)


class _Files:
    """The texts, or images, of a sample, by their extensions.

    Attributes:
        content: Of those that were read.
        problem: Why the sample cannot be used, or None.
    """

    def __init__(self, archive: tarfile.TarFile, limit: int) -> None:
        self._archive, self._limit = archive, limit
        self._headers: dict[str, tarfile.TarInfo] = {}
        self.content: dict[str, bytes] = {}
        self.problem: str | None = None

    def add(self, extension: str, header: tarfile.TarInfo, is_wanted: bool = True) -> None:
        """Take a file, and read it if it is wanted."""
        if self.problem is None:
            self.problem = _problem(extension, header, self._headers, self._limit)
            self._headers[extension] = header
            if self.problem is None and is_wanted:
                self.content[extension] = _content(self._archive, header)

    def complete(self) -> None:
        """Read what was not wanted, back in the archive."""
        for extension, header in self._headers.items():
            if self.problem is None and extension not in self.content:
                self.content[extension] = _content(self._archive, header)


def _problem(
    extension: str, header: tarfile.TarInfo, files: Container[str], limit: int
) -> str | None:
    if extension in files:
        return f"it has two files .{extension}"
    # Of a sparse file, the bytes in the archive are not those of the file.
    if header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or header.issparse():
        return f"its .{extension} is not a regular file"
    if header.size > limit:
        return f"its .{extension} has {header.size:,} bytes, the limit is {limit:,}"
    return None


def _content(archive: tarfile.TarFile, header: tarfile.TarInfo) -> bytes:
    assert archive.fileobj is not None
    archive.fileobj.seek(header.offset_data)
    content = archive.fileobj.read(header.size)
    if len(content) < header.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


def _caption_records(
    where: str, key: str, files: dict[str, bytes], fields: Fields
) -> Sequence[Record]:
    if "txt" not in files and "json" not in files:
        return [Record(where, problem="it has no .txt and no .json")]
    try:
        value = parse_json(files["json"], fields.names) if "json" in files else {}
    except json.JSONDecodeError as error:
        return [Record(where, problem=f"invalid JSON: {error.msg}")]
    if isinstance(value, AmbiguousObject):
        return records_of_object(where, value, fields)
    if not isinstance(value, dict):
        return [Record(where, problem="its .json is not a JSON object")]
    value["__key__"] = key
    if "txt" in files and fields.text == DEFAULT_TEXT:
        try:
            value[fields.text] = files["txt"].decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError:
            return [Record(where, problem="its .txt is invalid UTF-8")]
    return records_of_object(where, value, fields)


def _where(key: str) -> str:
    return f"sample {key[:100]!r}"
