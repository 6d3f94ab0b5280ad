"""Files below a local path or any fsspec URL: whole reads and writes, tried again, explained."""

from __future__ import annotations

import errno
import os
import posixpath
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from synthvlm.errors import RunFolderError, SynthVLMError
from synthvlm.run_folder.marker import is_within
from synthvlm.run_folder.storage_errors import is_permanent, reason

__all__ = ["DRAFT", "Clock", "Entry", "Storage"]

#: Ending of a hidden file that is not whole yet.
DRAFT = ".draft"
#: For how long what may pass is tried again, and the pauses between tries.
PATIENCE_S = 120.0
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 15.0
_TRIES_UNTOLD = 4
#: Files that are read at a time.
_BULK = 128
#: What is read with one request; more takes two.
_SMALL = 2**20
#: What object stores call the version of a file. Not its time: files change within a second.
_VERSIONS = ("ETag", "etag", "generation")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as it passes, never the time of day."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Entry(NamedTuple):
    """A file of a listing: size in bytes; a version that changes with its content, or nothing."""

    size: int
    version: tuple[str, ...]


class Storage:
    """Files by their names relative to a root.

    Other processes may write at any time, so nothing is answered from a cache of listings. On file
    systems that are not local what may pass is tried again, with exponential backoff and jitter.

    Attributes:
        note: Takes a line for people where that takes long.
    """

    def __init__(
        self, url: str | Path, *, clock: Clock | None = None, patience_s: float | None = None
    ) -> None:
        """Name the root; nothing is read or written yet.

        Args:
            url: A local path or any fsspec URL.
            clock: For the pauses between tries.
            patience_s: For how many seconds to try again; by default two minutes.

        Raises:
            RunFolderError: No file system of that kind is known or installed.
        """
        import fsspec
        from fsspec.implementations.local import LocalFileSystem

        self.url = str(url)
        self.clock = clock or Clock()
        self.note: Callable[[str], None] = lambda line: None
        self._patience_s = PATIENCE_S if patience_s is None else patience_s
        try:
            self._fs, self.root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise RunFolderError(f"run folder {self.url}: {error}") from None
        self.is_local = isinstance(self._fs, LocalFileSystem)

    @property
    def absolute_url(self) -> str:
        """The root by a name that does not depend on where a process works."""
        return str(Path(self.root)) if self.is_local else self.url

    @property
    def is_shared(self) -> bool:
        """Whether other processes can see it."""
        return "memory" not in self._fs.protocol

    def path(self, name: str) -> str:
        """Full path or URL of a name, for people and for other libraries."""
        if self.is_local:
            return str(Path(self.root) / name)
        return str(self._fs.unstrip_protocol(self._at(name)))

    def kind(self, name: str) -> str | None:
        """``file``, ``directory`` or another kind; None: there is nothing of that name."""
        info = self._info(name)
        return None if info is None else str(info["type"])

    def size(self, name: str) -> int | None:
        """Bytes of a file; None: there is no such file."""
        info = self._info(name)
        return None if info is None or info["type"] != "file" else int(info["size"])

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return self.attempt("read", name, lambda: bytes(self._fs.cat_file(self._at(name))))

    def read_if_there(self, name: str) -> bytes | None:
        """The bytes of a small file, with one request; None: there is no such file."""

        def fetch() -> bytes | None:
            path = self._at(name)
            try:
                # Without a range, s3fs asks for the size first.
                data = bytes(self._fs.cat_file(path, start=0, end=_SMALL))
                return data if len(data) < _SMALL else bytes(self._fs.cat_file(path))
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                return bytes(self._fs.cat_file(path))  # an empty file has no range

        return self.attempt("read", name, fetch)

    def read_many(self, names: Sequence[str]) -> dict[str, bytes]:
        """The bytes of each of these files that is there, read side by side where that helps.

        Call it after ``listing``, which tells the file system their sizes.
        """
        found: dict[str, bytes] = {}
        waiting = list(names)

        def fetch() -> None:
            failure: Exception | None = None
            for start in range(0, len(waiting), _BULK):
                some = waiting[start : start + _BULK]
                paths = [self._at(name) for name in some]
                for name, got in zip(some, self._fs.cat_ranges(paths, None, None), strict=True):
                    if not isinstance(got, Exception):
                        found[name] = bytes(got)
                    elif not isinstance(got, FileNotFoundError):
                        failure = failure or got
            if failure is not None:
                waiting[:] = [name for name in waiting if name not in found]
                raise failure

        if waiting:
            self.attempt("read", posixpath.dirname(waiting[0]), fetch, fresh=False)
        return found

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file, so that a reader sees all of it or nothing of it."""
        target = self._at(name, is_replaced=True)
        if self.is_local:
            self.attempt("write", name, lambda: _write_local(Path(target), data))
        else:
            self.attempt("write", name, lambda: self._fs.pipe_file(target, data))

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""

        def remove() -> None:
            try:
                self._fs.rm_file(self._at(name, is_replaced=True))
            except FileNotFoundError:
                return

        self.attempt("remove", name, remove)

    def remove_drafts(self, folder: str = "") -> None:
        """Remove what killed writers left below a folder of a local root; nobody has read it."""
        if self.is_local:
            with self.explained("remove", folder):
                for draft in Path(self._at(folder)).rglob(f".*{DRAFT}"):
                    draft.unlink(missing_ok=True)

    def make(self) -> None:
        """Make the root, where the file system has folders."""
        self.attempt("open", "", lambda: self._fs.makedirs(self.root, exist_ok=True))

    def children(self) -> list[str]:
        """Names of files and folders right below the root."""
        paths = self.attempt("open", "", lambda: self._fs.ls(self.root, detail=False))
        return [posixpath.basename(path.rstrip("/")) for path in paths]

    def listing(self, folder: str) -> dict[str, Entry]:
        """All files below a folder but hidden ones, by their names relative to the root."""

        def find() -> dict[str, dict[str, Any]]:
            try:
                return dict(self._fs.find(self._at(folder), detail=True))
            except FileNotFoundError:
                return {}

        prefix = self._at("").rstrip("/") + "/"
        return {
            path.removeprefix(prefix): Entry(
                int(info["size"] or 0), tuple(f"{k} {info[k]}" for k in _VERSIONS if info.get(k))
            )
            for path, info in self.attempt("list", folder, find).items()
            if not posixpath.basename(path).startswith(".")
        }

    def with_file(self, name: str, action: Callable[[IO[bytes]], _T]) -> _T:
        """What an action gets from a file that is open for reading; another try opens it anew."""

        def use() -> _T:
            with self._fs.open(self._at(name), "rb") as file:
                return action(file)

        return self.attempt("read", name, use)

    def attempt(self, verb: str, name: str, action: Callable[[], _T], *, fresh: bool = True) -> _T:
        """What an action gets from the file system; tried again where that may help.

        Args:
            verb: For the error, as ``read``.
            name: What it is done to, relative to the root.
            action: May be called several times.
            fresh: Whether the file system must forget what it listed earlier.

        Raises:
            RunFolderError: It failed, also in the end.
        """
        began, tries = self.clock.monotonic(), 0
        while True:
            try:
                if fresh and not self.is_local:
                    self._fs.invalidate_cache()
                with self.explained(verb, name, everything=True):
                    return action()
            except RunFolderError as error:
                cause = error.__cause__
                if self.is_local or cause is None or is_permanent(cause):
                    raise
                pause = min(_FIRST_PAUSE_S * 2**tries, _LONGEST_PAUSE_S) * random.uniform(0.5, 1)
                tries += 1
                if self.clock.monotonic() + pause - began > self._patience_s:
                    raise RunFolderError(
                        f"{error}, also at try {tries} (what is finished is kept)"
                    ) from cause
                if tries == _TRIES_UNTOLD:
                    self.note(f"{error}; trying again for up to {self._patience_s:g} s")
            self.clock.sleep(pause)

    @contextmanager
    def explained(self, verb: str, name: str, *, everything: bool = False) -> Iterator[None]:
        """Errors of the file system as one line.

        Args:
            verb: As ``read``.
            name: Relative to the root.
            everything: Whether nothing but the file system can fail here, so that all errors are
                its own; else Python's are not, but for OSErrors.
        """
        try:
            yield
        except SynthVLMError:
            raise
        except Exception as error:
            pythons = type(error).__module__ == "builtins"
            remote = not self.is_local and (everything or not pythons)
            if not isinstance(error, OSError) and not remote:
                raise
            where = self.path(name) if name else self.url
            raise RunFolderError(f"cannot {verb} {where}: {reason(error)}") from error

    def check_within(self, name: str) -> None:
        """Do nothing if a name leads to something below the root.

        Raises:
            RunFolderError: It leads out of it, by itself or by a symbolic link.
        """
        self._at(name)

    def _info(self, name: str) -> dict[str, Any] | None:
        def ask() -> dict[str, Any] | None:
            try:
                return dict(self._fs.info(self._at(name)))
            except (FileNotFoundError, NotADirectoryError):
                return None

        return self.attempt("read", name, ask)

    def _at(self, name: str, *, is_replaced: bool = False) -> str:
        """Where a file or folder is; of one that is replaced or removed, a link itself counts.

        Raises:
            RunFolderError: The name, or a symbolic link, leads out of the root.
        """
        if not name:
            return str(self.root)
        path = posixpath.join(self.root, name)
        if not is_within(name):
            raise RunFolderError(f"{name!r} leads out of {self.url}: it is not touched")
        if self.is_local:
            root = os.path.realpath(self.root)
            real = os.path.realpath(os.path.dirname(path) if is_replaced else path)
            if os.path.commonpath([root, real]) != root:
                raise RunFolderError(
                    f"{path} leads out of the run folder by a symbolic link: remove the link "
                    f"(to put a run on another disk, link to its whole folder)"
                )
        return path


def _write_local(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{uuid.uuid4().hex[:16]}{DRAFT}")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
