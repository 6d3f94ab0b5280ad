"""The files that a path, glob or URL stands for, opened through their compression."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from synthvlm.data import digest, fingerprint
from synthvlm.errors import CaptionSourceError, SynthVLMError
from synthvlm.models.file_hashes import file_hash
from synthvlm.models.remote_errors import hub_reason, is_hubs, missing_file_system
from synthvlm.safe_text import REMOVED, without_secrets

__all__ = [
    "READ_ERRORS",
    "SourceFile",
    "file_system",
    "find_files",
    "large_digest",
    "reason_of",
    "suffix_of",
]

#: What a missing, unreadable or damaged file raises.
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)

_CHUNK_BYTES = 1 << 20

#: What file systems call that by which the versions of a file can be told apart.
_VALIDATOR = re.compile(
    "etag|md5|sha|crc|digest|checksum|generation|version|modif|time|date|created|oid|blob|commit",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source.

    Attributes:
        path: As a user would write it.
        fs: Its fsspec file system.
        fs_path: Its path there.
    """

    path: str
    fs: Any
    fs_path: str

    @property
    def shown(self) -> str:
        """Its path for messages, without secrets of a URL."""
        return without_secrets(self.path)

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine's file system."""
        return _is_local(self.fs)

    @property
    def folder(self) -> tuple[Any, str, str]:
        """Its folder: the file system, the path there, and the path as a user would write it."""
        parent, _, _ = self.fs_path.rpartition("/")
        return self.fs, parent, self.path.rpartition("/")[0] or "."

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The decompressed content: reads in full, seeks backward slowly where compressed."""
        suffix = _name_of(self.path).suffix
        ending = suffix.lower()
        decompress = _DECOMPRESSORS.get(ending)
        with (
            _as_os_errors(self.fs),
            self.fs.open(self.fs_path, "rb") as raw,
            _seekable(raw) as whole,
        ):
            actual = _compression_of(whole)
            if decompress is not None and actual not in ("", ending):
                plain = self.shown.removesuffix(suffix)
                raise OSError(
                    f"it is no {ending} but a {actual} file: rename it to {plain}{actual}"
                )
            decompress = decompress or _DECOMPRESSORS.get(actual)
            if decompress is None:
                yield whole
                return
            with decompress(whole) as file, _with_nothing_behind(actual):
                yield file

    def digest(self, is_large: bool) -> str:
        """A hash of the content; if remote, of what tells its versions apart, where anything does.

        Args:
            is_large: Do not read it again while it is the same file, if local.
        """
        is_local = _is_local(self.fs)
        if is_local and is_large:
            return large_digest(self.fs_path)
        with _as_os_errors(self.fs):
            known: tuple[object, ...] = ()
            if not is_local:
                info = self.fs.info(self.fs_path)
                # HTTP knows nothing of the content in ``ukey``.
                version = [info.get(key) for key in ("size", "ETag", "Last-Modified")]
                version += [info[key] for key in ("Content-MD5", "Digest") if info.get(key)]
                # Another signature is no other file.
                known = (self.fs.ukey(without_secrets(self.fs_path)), version)
                if any(value and _VALIDATOR.search(key) for key, value in info.items()):
                    return fingerprint(*known)
            with self.fs.open(self.fs_path, "rb") as file:
                content = digest(iter(lambda: file.read(_CHUNK_BYTES), b""))
        return fingerprint(*known, content) if known else content


def suffix_of(path: str) -> str:
    """The lower-case ending without its dot, compression aside (``a.JSON.gz``: ``json``)."""
    name = _name_of(path)
    if name.suffix.lower() in _DECOMPRESSORS:
        name = name.with_suffix("")
    return name.suffix.lower().removeprefix(".")


def _name_of(path: str) -> PurePosixPath:
    is_http = re.search(r"\bhttps?://", path) is not None
    path = re.split("[?#]", path, maxsplit=1)[0] if is_http else path
    return PurePosixPath(path.replace("\\", "/"))


@contextmanager
def _seekable(raw: Any) -> Iterator[BinaryIO]:
    """The file itself, or a copy on disk of what a web server only gives as a stream."""
    if getattr(raw, "size", 0) is not None:
        yield raw
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(raw, copy, _CHUNK_BYTES)
        copy.seek(0)
        yield copy


@contextmanager
def _with_nothing_behind(compression: str) -> Iterator[None]:
    """Say so where a file is compressed as it should be, but something else follows."""
    try:
        yield
    except gzip.BadGzipFile as error:
        if compression != ".gz" or "Not a gzipped file" not in str(error):
            raise
        problem = "something else follows the compressed part: cut it off (gzip -dc OLD > NEW)"
        raise OSError(problem) from error


def _compression_of(file: BinaryIO) -> str:
    """The ending of files that are compressed as a file is, by its content; "" of any other."""
    if not file.seekable():
        return ""
    start = file.read(8)
    file.seek(0)
    endings = (ending for mark, ending in _MARKS.items() if start.startswith(mark))
    return next(endings, "")


def find_files(path: str) -> list[SourceFile]:
    """The files of a path or URL, sorted by path; a glob only where no file has that very name.

    Raises:
        CaptionSourceError: There is none, it is a directory, or it cannot be reached.
        MissingExtraError: The file system needs a package that is not installed.
    """
    from fsspec.core import has_magic

    if REMOVED in path and "://" in path:
        raise CaptionSourceError(
            f"{path}: a recipe keeps no secrets of URLs: give this one again, in full, with "
            f"--captions 'URL' or --set 'sources.0.path=URL'"
        )
    fs, fs_path = file_system(path)
    try:
        with _as_os_errors(fs):
            kind = _type_of(fs, fs_path)
            if kind == "directory":
                raise CaptionSourceError(
                    f"{path} is a directory; name its caption files, as in "
                    f"{path.rstrip('/')}/*.jsonl, or set format to huggingface"
                )
            if kind is not None:
                return [SourceFile(path, fs, fs_path)]
            if not has_magic(fs_path):
                raise CaptionSourceError(f"{path}: no such file")
            matches = fs.glob(fs_path, detail=True)
    except (OSError, ValueError) as error:  # ValueError: NUL in the path
        raise CaptionSourceError(f"{path}: cannot be read: {reason_of(error)}") from error
    names = sorted(name for name, info in matches.items() if info["type"] != "directory")
    if not names:
        raise CaptionSourceError(f"{path}: no file matches")
    is_url = "://" in path
    return [SourceFile(fs.unstrip_protocol(name) if is_url else name, fs, name) for name in names]


def file_system(path: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path on it.

    Raises:
        CaptionSourceError: There is no such file system.
        MissingExtraError: The file system needs a package that is not installed.
    """
    from fsspec.core import url_to_fs

    try:
        fs, fs_path = url_to_fs(path)
    except ImportError as error:
        raise missing_file_system(path, error) from error
    except ValueError as error:
        raise CaptionSourceError(f"{path}: {error}") from error
    return fs, fs_path


def large_digest(path: str) -> str:
    """A hash of all bytes of a local file, which is read once while it stays (``file_hash``)."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= 2 * _CHUNK_BYTES:
            # As runs know it that hashed no more than the ends of a file.
            first = file.read(_CHUNK_BYTES)
            file.seek(max(size - _CHUNK_BYTES, 0))
            return digest([str(size).encode(), first, file.read(_CHUNK_BYTES)])
    return fingerprint("whole", file_hash(path))


def _type_of(fs: Any, fs_path: str) -> str | None:
    """``file``, ``directory`` or another type; None where there is nothing.

    Not by ``isdir``: over HTTP it reads the whole file into memory, to look for links.
    """
    try:
        return str(fs.info(fs_path)["type"])
    except (FileNotFoundError, NotADirectoryError) as error:
        # The hub's file system says why there is nothing: a private repository, say.
        if error.__cause__ is not None and is_hubs(error.__cause__):
            raise OSError(hub_reason(error.__cause__)) from error
        return None


def _is_local(fs: Any) -> bool:
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(fs, LocalFileSystem)


@contextmanager
def _as_os_errors(fs: Any) -> Iterator[None]:
    """Remote file systems raise errors of their own: no credentials, a cut connection."""
    try:
        yield
    except (SynthVLMError, ValueError, *READ_ERRORS):
        raise
    except Exception as error:
        if _is_local(fs):
            raise
        raise OSError(reason_of(error) or type(error).__name__) from error


def reason_of(error: Exception) -> str:
    """What an error says, in one line."""
    if is_hubs(error):
        return hub_reason(error)
    return (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())


class _KeptOpen:
    """A file that pyarrow does not close when it drops it."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read

    def close(self) -> None:
        pass


class _ZstandardReader(io.RawIOBase):
    """Zstandard by pyarrow's codec; seeking backward starts again."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._restart()

    def _restart(self) -> None:
        import pyarrow as pa

        self._raw.seek(0)
        self._stream = pa.CompressedInputStream(pa.PythonFile(_KeptOpen(self._raw), "r"), "zstd")
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        data = self._stream.read(len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            while self.read(_CHUNK_BYTES):
                pass
        target = offset + (0 if whence == io.SEEK_SET else self._position)
        if target < self._position:
            self._restart()
        while self._position < target and self.read(min(target - self._position, _CHUNK_BYTES)):
            pass
        return self._position


def _open_zstandard(raw: BinaryIO) -> BinaryIO:
    return io.BufferedReader(_ZstandardReader(raw), _CHUNK_BYTES)


_DECOMPRESSORS: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": cast(Callable[[BinaryIO], Any], gzip.open),
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _open_zstandard,
}

#: How compressed files of each ending start.
_MARKS = {
    **{b"BZh%d1AY" % level: ".bz2" for level in range(1, 10)},
    b"\x1f\x8b\x08": ".gz",
    b"\xfd7zXZ\0": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
}
