"""SHA-256 of whole files, each read once: the result is kept from one command to the next."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["SETTLED_NS", "cache_folder", "file_hash", "file_state", "hash_of_files"]

#: Smaller files are read every time: that takes as long as looking them up.
_SMALL_BYTES = 2**20
#: File systems record times in steps of up to two seconds (FAT; ext4: milliseconds). A file that
#: changed less than that before it was read could change again and keep all that it is known by;
#: its hash is not kept. Git does the same with its index.
SETTLED_NS = 2_000_000_000

#: Of this process, for where the folder cannot be written.
_remembered: dict[str, str] = {}


def cache_folder() -> Path | None:
    """Where hashes are kept, below SYNTHVLM_CACHE or the user's caches; None: there is no home."""
    given = os.environ.get("SYNTHVLM_CACHE")
    if given:
        return Path(given) / "file-hashes"
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():  # unset, or nothing: its specification says so
        try:
            caches = Path.home() / ".cache"
        except RuntimeError:
            return None
    return caches / "synthvlm" / "file-hashes"


def file_hash(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's content, in hexadecimal.

    It is read once as long as its size, both its times, its inode and device stay; where it lies
    does not matter. Trouble with the cache costs time, and nothing else.

    Raises:
        OSError: The file cannot be read.
    """
    began = time.time_ns()
    info = os.stat(path)
    if info.st_size < _SMALL_BYTES:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    state = file_state(info)
    known = _remembered.get(state) or _read_entry(_name(info), state)
    if known is not None:
        _remembered[state] = known
        return known
    with open(path, "rb") as file:
        result = hashlib.file_digest(file, "sha256").hexdigest()
        is_same = file_state(os.fstat(file.fileno())) == state
    if is_same and began - max(info.st_mtime_ns, info.st_ctime_ns) >= SETTLED_NS:
        _remembered[state] = result
        _write_entry(_name(info), state, result)
    return result


def hash_of_files(paths: Sequence[str]) -> str:
    """The SHA-256 of the contents of many files, one behind the other.

    All are read once as long as all stay, small ones too.

    Raises:
        OSError: One cannot be read.
    """
    began = time.time_ns()
    infos = [os.stat(path) for path in paths]
    state = hashlib.sha256("\n".join(map(file_state, infos)).encode()).hexdigest()
    known = _remembered.get(state) or _read_entry(state, state)
    if known is not None:
        _remembered[state] = known
        return known
    result = hashlib.sha256("\n".join(map(file_hash, paths)).encode()).hexdigest()
    newest = max((max(info.st_mtime_ns, info.st_ctime_ns) for info in infos), default=0)
    is_same = [file_state(os.stat(path)) for path in paths] == list(map(file_state, infos))
    if is_same and began - newest >= SETTLED_NS:
        _remembered[state] = result
        _write_entry(state, state, result)
    return result


def file_state(info: os.stat_result) -> str:
    """What identifies a file's content. The ctime shows changes after which the mtime was reset."""
    return f"{info.st_dev} {info.st_ino} {info.st_size} {info.st_mtime_ns} {info.st_ctime_ns}"


def _name(info: os.stat_result) -> str:
    """The name of a file's entry: its own, so that no process waits for a lock."""
    return hashlib.blake2b(f"{info.st_dev} {info.st_ino}".encode(), digest_size=16).hexdigest()


def _entry(name: str) -> Path | None:
    """Where a hash is kept."""
    folder = cache_folder()
    return None if folder is None else folder / name


def _line(state: str, result: str) -> bytes:
    """An entry: state, hash, and a checksum of both, by which damage is found."""
    text = f"{state} {result}".encode()
    return b"%s %s\n" % (text, hashlib.blake2b(text, digest_size=16).hexdigest().encode())


def _read_entry(name: str, state: str) -> str | None:
    entry = _entry(name)
    if entry is None:
        return None
    try:
        line = entry.read_bytes()
        result = line.split()[-2].decode()
    except (OSError, ValueError, IndexError):
        return None
    return result if line == _line(state, result) else None


def _write_entry(name: str, state: str, result: str) -> None:
    """Write an entry whole or not at all; whatever goes wrong is no matter."""
    entry = _entry(name)
    if entry is None:
        return
    with contextlib.suppress(OSError):
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=entry.parent)
        try:
            with open(handle, "wb") as file:
                file.write(_line(state, result))
            os.replace(partial, entry)
        except BaseException:
            os.unlink(partial)
            raise
