"""Caption sources: files of captions, local or on any fsspec file system, read as a stream."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

from synthvlm.captions.readers import READERS, Fields, Record
from synthvlm.data import Caption, digest
from synthvlm.errors import CaptionSourceError, MissingExtraError

__all__ = ["MAX_CAPTION_CHARS", "read_captions", "source_digest"]

#: A longer caption is a problem row: it cannot be one.
MAX_CAPTION_CHARS = 100_000

#: What a problem row keeps of a caption that is too long.
_EXCERPT_CHARS = 1_000

_CHUNK_BYTES = 1 << 20


def read_captions(
    path: str | os.PathLike[str],
    *,
    name: str,
    format: str = "auto",
    text_field: str = "caption",
    id_field: str = "id",
    normalize: Callable[[str], str],
) -> Iterator[Caption]:
    """Read the captions of one source in order, in constant memory (``.json`` files excepted).

    Nothing is skipped. A row that cannot be used (invalid JSON or CSV, a missing field, a
    caption that is not text, invalid UTF-8, NUL in CSV, more than ``MAX_CAPTION_CHARS``
    characters) is a caption with an empty text and a ``problem`` that names its line; of a
    caption that is too long, ``text_raw`` holds the first 1,000 characters. A blank line is a row
    with an empty text, which the rules reject. The newline that ends a file is no row.

    Args:
        path: A local path or fsspec URL, compressed or not (``.gz``, ``.bz2``).
        name: Name of the source; the n-th row (from zero) without an id gets ``<name>-<n>``.
        format: ``txt`` (a caption a line), ``jsonl``, ``csv`` (quoted, with a header), ``tsv``
            (never quoted, with a header), ``json`` (a list of objects), ``parquet``, or ``auto``,
            by the ending of the path.
        text_field: Column or key of the caption.
        id_field: Column or key of the id, a string or an integer. ``id`` may be missing, any
            other name must exist.
        normalize: Makes ``text`` of ``text_raw``.

    Raises:
        CaptionSourceError: The file is missing, unreadable, a directory, of unknown format, holds
            no captions, lacks a column, or is a ``.json`` that does not parse. Raised at once or,
            where the file must be read to know, while iterating.
        MissingExtraError: The file system of the URL needs a package that is not installed.
    """
    path = os.fspath(path)
    format = _format_of(path, format)
    fs, fs_path = _file_system(path)
    _check_is_file(fs, fs_path, path)
    fields = Fields(path, text_field, id_field)
    return _captions(fs, fs_path, format, fields, name, normalize)


def source_digest(path: str | os.PathLike[str]) -> str:
    """A hash of what a source holds: of its bytes if local, else what ``fs.ukey`` tells.

    Raises:
        CaptionSourceError: The file is missing, unreadable or a directory.
    """
    from fsspec.implementations.local import LocalFileSystem

    path = os.fspath(path)
    fs, fs_path = _file_system(path)
    _check_is_file(fs, fs_path, path)
    try:
        if not isinstance(fs, LocalFileSystem):
            return str(fs.ukey(fs_path))
        with open(fs_path, "rb") as file:
            return digest(iter(lambda: file.read(_CHUNK_BYTES), b""))
    except OSError as error:
        raise _unreadable(path, error) from error


def _captions(
    fs: Any,
    fs_path: str,
    format: str,
    fields: Fields,
    name: str,
    normalize: Callable[[str], str],
) -> Iterator[Caption]:
    from fsspec.utils import infer_compression

    row = -1
    try:
        with fs.open(fs_path, "rb", compression=infer_compression(fs_path)) as file:
            for row, record in enumerate(READERS[format](file, fields)):
                yield _caption(record, fields, name, row, normalize)
    except (OSError, EOFError, zlib.error) as error:  # what broken compressed files raise, too
        raise _unreadable(fields.path, error) from error
    if row < 0:
        raise CaptionSourceError(f"{fields.path}: the file holds no captions")


def _caption(
    record: Record, fields: Fields, name: str, row: int, normalize: Callable[[str], str]
) -> Caption:
    text, given, problem = record.text, record.id, record.problem
    identity = f"{name}-{row}"
    if isinstance(given, str | int) and not isinstance(given, bool) and given != "":
        identity = str(given)
    elif given is not None and given != "" and problem is None:
        problem = f"{fields.id!r} must be a string or a 64-bit integer, not {_kind(given)}"
    raw = text if isinstance(text, str) else ""
    if problem is None and not isinstance(text, str):
        problem = f"{fields.text!r} must be a string, not {_kind(text)}"
    if len(raw) > MAX_CAPTION_CHARS:
        problem = f"the caption has {len(raw):,} characters, the limit is {MAX_CAPTION_CHARS:,}"
        raw = raw[:_EXCERPT_CHARS]
    if problem is not None:
        return Caption(identity, name, row, raw, "", f"{record.where}: {problem}")
    return Caption(identity, name, row, raw, normalize(raw))


def _kind(value: object) -> str:
    """What JSON calls the type of a value."""
    kinds = {dict: "an object", list: "a list", bool: "a boolean", int: "a number"}
    return "null" if value is None else kinds.get(type(value), "a number")


def _format_of(path: str, format: str) -> str:
    from fsspec.utils import infer_compression

    if format == "auto":
        pure = PurePosixPath(path.replace("\\", "/"))
        suffix = PurePosixPath(pure.stem).suffix if infer_compression(path) else pure.suffix
        format = suffix.lower().removeprefix(".")
        problem = f"cannot tell the format of captions from the ending {suffix!r}"
    else:
        problem = f"unknown format {format!r}"
    if format not in READERS:
        raise CaptionSourceError(f"{path}: {problem}; set format to one of {', '.join(READERS)}")
    return format


def _file_system(path: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path on it."""
    from fsspec.core import url_to_fs

    try:
        fs, fs_path = url_to_fs(path)
    except ImportError as error:
        raise MissingExtraError(f"{path}: {error}") from error
    except ValueError as error:
        raise CaptionSourceError(f"{path}: {error}") from error
    return fs, fs_path


def _check_is_file(fs: Any, fs_path: str, path: str) -> None:
    try:
        if fs.isdir(fs_path):
            raise CaptionSourceError(f"{path} is a directory; name one file of captions per source")
        if not fs.exists(fs_path):
            raise CaptionSourceError(f"{path}: no such file")
    except (OSError, ValueError) as error:  # ValueError: NUL in the path
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> CaptionSourceError:
    reason = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
    return CaptionSourceError(f"{path}: cannot be read: {reason}")
