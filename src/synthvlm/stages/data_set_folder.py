"""The run's ``dataset/``, which may hold a million files: looked at a folder at a time.

Its card may have been edited by a user; while the data set has none, ``card.md`` holds it.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from synthvlm.data import digest
from synthvlm.exporters.edited_card import is_intact

if TYPE_CHECKING:
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = [
    "CARD_FILE",
    "FOLDER",
    "KEPT_CARD",
    "DataSetFolder",
    "FilesPresent",
    "Listing",
    "files_with_card",
    "folders_of",
    "keep_card",
    "present_card",
]

FOLDER = "dataset"
CARD_FILE = "README.md"
#: Where the card is while the data set has none.
KEPT_CARD = "card.md"
#: As in the store: what a kill leaves of these is cleared when the run folder is held again.
_DRAFT = ".draft"


class Listing(NamedTuple):
    """What lies directly in a folder: sizes of files by their names, and names of folders."""

    sizes: dict[str, int]
    folders: list[str]


class DataSetFolder:
    """Names are relative to ``dataset/``."""

    def __init__(self, run: RunFolder, folder: str = FOLDER) -> None:
        """Take the run folder; ``dataset/``, or another one in it, need not be there yet."""
        import fsspec

        self._run, self._folder = run, folder
        self._fs, root = fsspec.core.url_to_fs(run.path(folder))
        self._root = str(root).rstrip("/")
        self._is_local = run.local_path(folder) is not None
        self._checked: set[str] = set()

    def contents(self) -> Iterator[tuple[str, dict[str, int]]]:
        """Each folder, and the names and sizes of the files that lie directly in it.

        Hidden files are left out: unless a record names one, it is none of ours.
        """
        for path, _, files in self._fs.walk(self._at(""), detail=True):
            sizes = self._sizes(path, files)
            yield self._relative(path), {n: size for n, size in sizes.items() if not _is_hidden(n)}

    def listing(self, folder: str) -> Listing:
        """The files and folders that lie directly in one folder."""
        where = self._at(f"{folder}/").rstrip("/") if folder else self._at("")
        if self._is_local:  # fsspec makes a dict of ten entries of every file
            files: dict[str, dict[str, Any]] = {}
            folders = []
            with suppress(FileNotFoundError), os.scandir(where) as entries:
                for entry in entries:
                    if entry.is_file():
                        files[entry.name] = {"size": entry.stat().st_size}
                    elif entry.is_dir(follow_symlinks=False):
                        folders.append(posixpath.join(folder, entry.name))
            return Listing(self._sizes(where, files), folders)
        for path, within, files_here in self._fs.walk(where, maxdepth=1, detail=True):
            names = [posixpath.join(folder, posixpath.basename(name)) for name in within]
            return Listing(self._sizes(path, files_here), names)
        return Listing({}, [])

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        self._run.remove(posixpath.join(self._folder, name))

    def write(self, name: str, chunks: Iterable[bytes]) -> tuple[int, str]:
        """Write a file of a part, return its bytes and checksum; ``sync`` makes it last.

        A kill may leave it torn; its part has no marker then, and is written again.
        """
        if not self._is_local:
            return self._write_remote(name, chunks)
        with self.failures_explained(name):
            return self._write(self._at(name), chunks)

    def write_whole(self, name: str, chunks: Iterable[bytes]) -> tuple[int, str]:
        """Write a file of which a reader sees all or nothing, and which lasts; as ``write``."""
        if not self._is_local:
            return self._write_remote(name, chunks)  # all or nothing, and it lasts
        with self.failures_explained(name):
            target = self._at(name)
            draft = Path(target).with_name(f".{uuid.uuid4().hex[:16]}{_DRAFT}")
            try:
                written = self._write(str(draft), chunks, lasting=True)
                draft.replace(target)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
            return written

    def sync(self) -> None:
        """Let all that was written survive a loss of power.

        At once: file by file it takes longer than all the rest of writing a million of them.
        """
        if self._is_local:
            os.sync()

    def _write_remote(self, name: str, chunks: Iterable[bytes]) -> tuple[int, str]:
        """In one piece, which can be sent again where the store fails."""
        stored = self._run.write(posixpath.join(self._folder, name), b"".join(chunks))
        return stored.size, stored.checksum

    def _write(
        self, path: str, chunks: Iterable[bytes], *, lasting: bool = False
    ) -> tuple[int, str]:
        size, checksum = 0, hashlib.blake2b(digest_size=16)  # as of the store's files
        with self._opened(path) as file:
            for chunk in chunks:
                file.write(chunk)
                checksum.update(chunk)
                size += len(chunk)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        return size, checksum.hexdigest()

    def _opened(self, path: str) -> IO[bytes]:
        try:
            return open(path, "wb", opener=_open_no_link)
        except FileNotFoundError:
            self._run.make_parent(Path(path))
            return open(path, "wb", opener=_open_no_link)

    def _at(self, name: str) -> str:
        folder = posixpath.dirname(name)
        if folder not in self._checked:
            self._run.check_within(posixpath.join(self._folder, folder).rstrip("/"))
            self._checked.add(folder)
        return posixpath.join(self._root, name) if name else self._root

    def _relative(self, path: str) -> str:
        return path.removeprefix(self._root).strip("/")

    def _sizes(self, folder: str, files: dict[str, dict[str, Any]]) -> dict[str, int]:
        within = self._relative(folder)
        return {
            posixpath.join(within, name): int(info["size"] or 0)
            for name, info in files.items()
            if not name.endswith(_DRAFT)
        }

    def failures_explained(self, name: str) -> Any:
        """See ``RunFolder.failures_explained``; the name is one of this folder."""
        return self._run.failures_explained("write", posixpath.join(self._folder, name))


class FilesPresent:
    """What is in the data set before it is changed; each folder is listed once."""

    def __init__(self, folder: DataSetFolder) -> None:
        """Nothing is listed yet."""
        self._folder = folder
        self._sizes = lru_cache(maxsize=16)(self._list)  # parts share folders
        #: Of each folder, how many files of it are not yet asked for, and its own folders.
        self._left: dict[str, int] = {}
        self._folders: dict[str, list[str]] = {}

    def has(self, files: Mapping[str, tuple[int, str]]) -> bool:
        """Whether files are all there at full size; each is asked for once."""
        present = {within: self._sizes(within) for within in folders_of(files)}
        for name in files:
            self._left[posixpath.dirname(name)] -= not _is_hidden(name)
        return all(present[posixpath.dirname(n)].get(n) == size for n, (size, _) in files.items())

    def has_others(self) -> bool:
        """Whether there are files that were not asked for, given that those asked for are there."""
        waiting = [""]
        while waiting:
            within = waiting.pop()
            if within not in self._left:
                self._sizes(within)
            waiting += self._folders[within]
        return any(self._left.values())

    def _list(self, within: str) -> dict[str, int]:
        listing = self._folder.listing(within)
        self._left.setdefault(within, sum(not _is_hidden(name) for name in listing.sizes))
        self._folders[within] = listing.folders
        return listing.sizes


def present_card(run: RunFolder) -> bytes | None:
    """The card, or the one that an interrupted export kept; None if there is none."""
    for name in (f"{FOLDER}/{CARD_FILE}", KEPT_CARD):
        if run.exists(name):
            return run.read(name)
    return None


def keep_card(run: RunFolder, card: bytes | None, final: Marker | None) -> str | None:
    """Keep a card that a user may have edited, so that a kill does not lose it.

    Args:
        run: The run folder.
        card: Of ``present_card``.
        final: The marker of the last finished data set.

    Returns:
        Its text; None if there is none, or it is one without a marked part as it was exported.
    """
    if card is None:
        return None
    if final is not None and final.facts.get("card") is None:
        recorded = final.facts["files"].get(CARD_FILE)
        if recorded is not None and [len(card), digest([card])] == list(recorded):
            return None
    run.write(KEPT_CARD, card)
    return card.decode("utf-8", "replace")


def files_with_card(final: Marker, card: bytes | None) -> dict[str, tuple[int, str]]:
    """The files that a finished data set has, with the card as a user has edited it.

    Args:
        final: The marker of the finished data set.
        card: Of ``present_card``.
    """
    files: dict[str, tuple[int, str]] = dict(final.facts["files"])
    if card is not None and is_intact(card, final.facts.get("card")):
        files[CARD_FILE] = (len(card), digest([card]))
    return files


def folders_of(files: Iterable[str]) -> set[str]:
    """The folders in which files lie directly."""
    return {posixpath.dirname(name) for name in files}


def _is_hidden(name: str) -> bool:
    return posixpath.basename(name).startswith(".")


def _open_no_link(path: str, flags: int) -> int:
    """As ``os.open``, but a link in a file's place is not followed."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)
