"""WebDataset shards: tar archives whose files are grouped into samples by their key."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import BinaryIO

import orjson

from synthvlm.captions.readers.images import MAX_IMAGE_BYTES
from synthvlm.captions.readers.records import MAX_ITEM_BYTES, Fields, Record, record_of_object
from synthvlm.errors import CaptionSourceError

__all__ = ["IMAGE_EXTENSIONS", "read_webdataset"]

#: As WebDataset writes alternatives: the first that a sample has.
IMAGE_EXTENSIONS = "jpg;jpeg;png;webp"

#: WebDataset's own rule: the extension starts at the first dot of the file's name.
_NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)

#: A long name or a set of attributes; tarfile reads it as a whole.
_MAX_EXTENDED_HEADER = 1 << 20

# A sample is the run of members with one key: key, then extension, member.
_Member = tuple[str, str, tarfile.TarInfo]


def read_webdataset(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """A sample a row, as a stream; names in the archive are keys and never become paths.

    The caption is the sample's ``.txt``, or the field ``fields.text`` of its ``.json``: of both,
    the ``.txt``, unless a field other than ``caption`` is named. An id is a field of the
    ``.json``, or the sample's key where the field is ``__key__``. ``fields.image`` are the
    extensions of the image. Files without a key or an extension belong to no sample.
    """
    place = "at its start"
    try:
        # The name is no file's: it only keeps tarfile from looking for one.
        with tarfile.TarFile(
            "", "r", fileobj=file, tarinfo=_Header, encoding="utf-8", errors="replace"
        ) as archive:
            samples = groupby(_members(archive), key=lambda member: member[0])
            for row, (key, members) in enumerate(samples):
                yield _read_sample(archive, key, members, row, fields)
                place = f"after {_where(key)}"
    # RecursionError: a chain of extended headers. The others: damaged attributes.
    except (tarfile.TarError, ValueError, IndexError, OverflowError, RecursionError) as error:
        raise CaptionSourceError(f"{fields.path}, {place}: damaged archive: {error}") from error


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
    """The members that belong to samples.

    ``tarfile`` itself keeps all members in memory and takes an archive that was cut off, or goes
    on with garbage, for one that ends there.
    """
    assert archive.fileobj is not None
    header = archive.next()
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
            return
        except tarfile.EmptyHeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError("it was cut off: the end marker is missing") from error


def _read_sample(
    archive: tarfile.TarFile, key: str, members: Iterable[_Member], row: int, fields: Fields
) -> Record:
    where = _where(key)
    extensions = ["txt", "json"]
    if fields.image is not None:
        extensions = fields.image.lower().split(";") if fields.wants(row) else []
    limit = MAX_ITEM_BYTES if fields.image is None else MAX_IMAGE_BYTES
    files: dict[str, bytes] = {}
    for _, extension, header in members:
        if extension not in extensions:
            continue
        if extension in files:
            return Record(where, problem=f"it has two files .{extension}")
        # Of a sparse file, the bytes in the archive are not those of the file.
        if header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or header.issparse():
            return Record(where, problem=f"its .{extension} is not a regular file")
        if header.size > limit:
            problem = f"its .{extension} has {header.size:,} bytes, the limit is {limit:,}"
            return Record(where, problem=problem)
        files[extension] = _content(archive, header)
    if fields.image is None:
        return _caption_record(where, key, files, fields)
    image = next((files[name] for name in extensions if name in files), None)
    if image is None and fields.image_required and extensions:
        return Record(where, problem=f"it has no .{fields.image}")
    return Record(where, image=image)


def _content(archive: tarfile.TarFile, header: tarfile.TarInfo) -> bytes:
    assert archive.fileobj is not None
    archive.fileobj.seek(header.offset_data)
    content = archive.fileobj.read(header.size)
    if len(content) < header.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


def _caption_record(where: str, key: str, files: dict[str, bytes], fields: Fields) -> Record:
    if not files:
        return Record(where, problem="it has no .txt and no .json")
    try:
        value = orjson.loads(files["json"]) if "json" in files else {}
    except orjson.JSONDecodeError as error:
        return Record(where, problem=f"invalid JSON: {error.msg}")
    if not isinstance(value, dict):
        return Record(where, problem="its .json is not a JSON object")
    value["__key__"] = key
    if "txt" in files and fields.text == "caption":
        try:
            value[fields.text] = files["txt"].decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError:
            return Record(where, problem="its .txt is invalid UTF-8")
    return record_of_object(where, value, fields)


def _where(key: str) -> str:
    return f"sample {key[:100]!r}"
