"""Files below a local path or any fsspec URL.

Files are read and written as a whole. On remote file systems, operations that fail are retried.
Errors are explained in one line.
"""

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
from synthvlm.run_folder.file_systems import is_permanent, open_file_system, reason
from synthvlm.run_folder.marker import is_within

__all__ = ["DRAFT", "Clock", "Entry", "Storage"]

#: Ending of a hidden file that is still being written.
DRAFT = ".draft"
#: How long a failed operation is retried, and the pauses between attempts, in seconds.
PATIENCE_S = 120.0
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 15.0
#: The failure is reported after this many attempts.
_SILENT_ATTEMPTS = 4
#: Number of files that are read at a time.
_BULK = 128
#: Files below this size in bytes are read with one request, larger ones with two.
_SMALL = 2**20
#: Keys by which object stores give the version of a file. Its time of modification is not one of
#: them: it is too coarse, a file may change twice within a second.
_VERSIONS = ("ETag", "etag", "generation")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Clock:
    """Elapsed time, never the time of day: wall clocks may jump."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Entry(NamedTuple):
    """A listed file: its size in bytes, and a version that changes with its content.

    The version is empty where the file system has none.
    """

    size: int
    version: tuple[str, ...]


class Storage:
    """Files by their names relative to a root.

    Other processes may write at any time, so listings are never cached. On remote file systems,
    operations that fail for a reason that may pass are retried, with exponential backoff and
    jitter.

    Attributes:
        note: Takes a line for the user when an operation is retried for long.
    """

    def __init__(
        self, url: str | Path, *, clock: Clock | None = None, patience_s: float | None = None
    ) -> None:
        """Set the root; nothing is read or written yet.

        Args:
            url: A local path or any fsspec URL.
            clock: For the pauses between attempts.
            patience_s: Seconds for which to retry; by default 120.

        Raises:
            RunFolderError: The kind of file system is unknown, not installed, or not one of
                folders that can be written.
        """
        from fsspec.implementations.local import LocalFileSystem

        self.url = str(url)
        self.clock = clock or Clock()
        self.note: Callable[[str], None] = lambda line: None
        self._patience_s = PATIENCE_S if patience_s is None else patience_s
        self._fs, self.root = open_file_system(self.url)
        self.is_local = isinstance(self._fs, LocalFileSystem)
        #: Whether the root exists, so that a file whose root is gone is not written.
        self.is_made = False

    @property
    def absolute_url(self) -> str:
        """The root, independent of the working folder of a process."""
        return str(Path(self.root)) if self.is_local else self.url

    @property
    def is_shared(self) -> bool:
        """Whether other processes can see it."""
        return "memory" not in self._fs.protocol

    def path(self, name: str) -> str:
        """Full path or URL of a name."""
        if self.is_local:
            return str(Path(self.root) / name)
        return str(self._fs.unstrip_protocol(self._at(name)))

    def kind(self, name: str) -> str | None:
        """``file``, ``directory`` or another kind; None if nothing has that name."""
        info = self._info(name)
        return None if info is None else str(info["type"])

    def size(self, name: str) -> int | None:
        """Size of a file in bytes; None if there is no such file."""
        info = self._info(name)
        return None if info is None or info["type"] != "file" else int(info["size"])

    def read(self, name: str) -> bytes:
        """Read a file."""
        return self.attempt("read", name, lambda: bytes(self._fs.cat_file(self._at(name))))

    def read_if_exists(self, name: str) -> bytes | None:
        """Read a small file with one request; None if there is no such file."""

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
                return bytes(self._fs.cat_file(path))  # of an empty file no range can be read

        return self.attempt("read", name, fetch)

    def read_many(self, names: Sequence[str]) -> dict[str, bytes]:
        """Read those of some files that exist, in parallel where that helps.

        Call it after ``listing``, from which the file system knows their sizes.
        """
        contents: dict[str, bytes] = {}
        missing = list(names)

        def fetch() -> None:
            failure: Exception | None = None
            for start in range(0, len(missing), _BULK):
                batch = missing[start : start + _BULK]
                paths = [self._at(name) for name in batch]
                for name, result in zip(batch, self._fs.cat_ranges(paths, None, None), strict=True):
                    if not isinstance(result, Exception):
                        contents[name] = bytes(result)
                    elif not isinstance(result, FileNotFoundError):
                        failure = failure or result
            if failure is not None:
                missing[:] = [name for name in missing if name not in contents]
                raise failure

        if missing:
            self.attempt("read", posixpath.dirname(missing[0]), fetch, fresh=False)
        return contents

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically: a reader sees all of it, or the previous one."""
        target = self._at(name, is_replaced=True)
        if self.is_local:
            self.attempt("write", name, lambda: self._write_local(Path(target), data))
        else:
            self.attempt("write", name, lambda: self._fs.pipe_file(target, data))

    def _write_local(self, target: Path, data: bytes) -> None:
        self.make_parent(target)
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

    def make_parent(self, target: Path) -> None:
        """Make the folder of a local file, but not the root that was made and is gone.

        Raises:
            RunFolderError: The root was removed or renamed.
        """
        if not target.parent.is_dir():
            self.check_made()
            target.parent.mkdir(parents=True, exist_ok=True)

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""

        def remove() -> None:
            try:
                self._fs.rm_file(self._at(name, is_replaced=True))
            except FileNotFoundError:
                return

        self.attempt("remove", name, remove)

    def remove_drafts(self, folder: str = "") -> None:
        """Remove the incomplete files of killed writers below a folder of a local root."""
        if self.is_local:
            with self.explained("remove", folder):
                for draft in Path(self._at(folder)).rglob(f".*{DRAFT}"):
                    draft.unlink(missing_ok=True)

    def make(self) -> None:
        """Create the root, if the file system has folders; a bucket has to be there.

        Raises:
            RunFolderError: It cannot be created, or there is no such bucket.
        """
        self.check_bucket()
        if self._bucket is None:
            self.attempt("open", "", lambda: self._fs.makedirs(self.root, exist_ok=True))
        self.is_made = True

    def check_bucket(self) -> None:
        """Check that there is a bucket of that name; one that may not be looked at counts as such.

        Raises:
            RunFolderError: There is none: buckets are never created.
        """
        bucket = self._bucket
        if bucket is None:
            return
        try:
            self.attempt("open", "", lambda: self._fs.info(bucket))
        except RunFolderError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise RunFolderError(
                    f"{self.url}: there is no bucket {bucket!r}, and buckets are never created "
                    f"here: correct the name, or create it first"
                ) from error.__cause__
            if not isinstance(error.__cause__, PermissionError | ValueError | NotImplementedError):
                raise

    @property
    def _bucket(self) -> str | None:
        """The bucket or container that the root is in; None where the file system has none."""
        has_buckets = not self.is_local and not self.root.startswith("/")
        return self.root.split("/", 1)[0] if has_buckets else None

    def check_made(self) -> None:
        """Check that a local root that was made is still there.

        Raises:
            RunFolderError: It was removed or renamed.
        """
        if self.is_local and self.is_made and not os.path.isdir(self.root):
            raise RunFolderError(
                f"{self.url} is gone: it was removed or renamed while it was written to; put it "
                f"back to go on, or run the same command to begin again"
            )

    def children(self) -> list[str]:
        """Names of the files and folders directly below the root."""
        paths = self.attempt("open", "", lambda: self._fs.ls(self.root, detail=False))
        return [posixpath.basename(path.rstrip("/")) for path in paths]

    def listing(self, folder: str) -> dict[str, Entry]:
        """All files below a folder except hidden ones, by their names relative to the root."""

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
        """Call an action with a file opened for reading; a retry opens it again."""

        def use() -> _T:
            with self._fs.open(self._at(name), "rb") as file:
                return action(file)

        return self.attempt("read", name, use)

    def attempt(self, verb: str, name: str, action: Callable[[], _T], *, fresh: bool = True) -> _T:
        """Call an action that uses the file system; retry it if that may help.

        Args:
            verb: What the action does, for the error message, e.g. ``read``.
            name: The file or folder concerned, relative to the root.
            action: May be called several times.
            fresh: Whether the file system has to forget earlier listings.

        Raises:
            RunFolderError: It failed, and so did the retries.
        """
        started, attempts = self.clock.monotonic(), 0
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
                pause = min(_FIRST_PAUSE_S * 2**attempts, _LONGEST_PAUSE_S) * random.uniform(0.5, 1)
                attempts += 1
                if self.clock.monotonic() + pause - started > self._patience_s:
                    raise RunFolderError(
                        f"{error} (after {attempts} attempts; finished work is kept)"
                    ) from cause
                if attempts == _SILENT_ATTEMPTS:
                    self.note(f"{error}; retrying for up to {self._patience_s:g} s")
            self.clock.sleep(pause)

    @contextmanager
    def explained(self, verb: str, name: str, *, everything: bool = False) -> Iterator[None]:
        """Turn errors of the file system into a ``RunFolderError`` of one line.

        Args:
            verb: What is being done, e.g. ``read``.
            name: The file or folder concerned, relative to the root.
            everything: Whether only the file system can fail here. Otherwise Python's built-in
                exceptions other than OSError are left alone: they are bugs, not failures.
        """
        try:
            yield
        except SynthVLMError:
            raise
        except Exception as error:
            is_builtin = type(error).__module__ == "builtins"
            is_remote = not self.is_local and (everything or not is_builtin)
            if not isinstance(error, OSError) and not is_remote:
                raise
            where = self.path(name) if name else self.url
            raise RunFolderError(f"cannot {verb} {where}: {reason(error)}") from error

    def check_within(self, name: str) -> None:
        """Check that a name stays below the root.

        Raises:
            RunFolderError: It leads out of the root, by itself or by a symbolic link.
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
        """Path of a file or folder in the file system.

        Args:
            name: Relative to the root.
            is_replaced: Whether the file is replaced or removed. A symbolic link of that name is
                then replaced itself, so where it leads does not matter.

        Raises:
            RunFolderError: The name, or a symbolic link, leads out of the root.
        """
        if not name:
            return str(self.root)
        path = posixpath.join(self.root, name)
        if not is_within(name):
            raise RunFolderError(f"{name!r} leads out of {self.url}; it was not touched")
        if self.is_local:
            root = os.path.realpath(self.root)
            real = os.path.realpath(os.path.dirname(path) if is_replaced else path)
            if os.path.commonpath([root, real]) != root:
                raise RunFolderError(
                    f"{path} leads out of the run folder by a symbolic link: remove the link "
                    f"(to put a run on another disk, link the whole folder)"
                )
        return path
