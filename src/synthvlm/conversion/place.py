"""Where a conversion writes: a place of its own, in which the card is the last file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import orjson

from synthvlm.data import fingerprint
from synthvlm.errors import PluginError, RunFolderError
from synthvlm.exporters.written_files import DescribedFiles
from synthvlm.run_folder.folder import RunFolder
from synthvlm.run_folder.storage import Storage
from synthvlm.stages.data_set_folder import CARD_FILE, DataSetFolder

if TYPE_CHECKING:
    from synthvlm.progress.display import Progress

__all__ = ["Place"]

#: Says which conversion a place belongs to; written first.
RECORD = ".synthvlm-conversion.json"


class Place:
    """A folder, local or at an fsspec URL, that is new or empty, or was left by a killed attempt.

    Attributes:
        url: The folder.
        removed: Names of files that a killed attempt left and this one did not write.
        described: The files that were written, but for images, of which there may be millions.
    """

    def __init__(self, url: str) -> None:
        """Take the folder; nothing is read yet.

        Raises:
            RunFolderError: There is no such file system.
        """
        self._storage, self._folder = Storage(url), RunFolder(url)
        self._data_set = DataSetFolder(self._folder, "")
        self._content = hashlib.blake2b(digest_size=12)
        self._names: set[int] = set()
        self._is_left = False
        self.url = url
        self.described = DescribedFiles()
        self.removed: list[str] = []

    @contextmanager
    def claimed(self, source: str, identity: str, progress: Progress) -> Iterator[None]:
        """Hold the place for a conversion; without an error, it is whole in the end.

        Args:
            source: What is converted, for messages.
            identity: Of the conversion: another one is refused.
            progress: Takes lines for the user.

        An error before the first file leaves the place as new.

        Raises:
            RunFolderError: It holds anything else, or cannot be written, or another conversion
                works in it.
        """
        self._is_left = self._is_of_killed(source, identity)
        self._storage.make()
        with self._folder.held(note=progress.note):
            record = {"source": source, "identity": identity}
            self._folder.write(RECORD, orjson.dumps({**record, "done": False}))
            if self._is_left:
                progress.note(f"note: {self.url} was left unfinished: it is written anew")
                for name in self._data_set.listing("").sizes:
                    if not name.startswith("."):  # the record and the lock are needed
                        self._data_set.remove(name)  # the card and the indexes
            try:
                yield
            except BaseException:
                with suppress(RunFolderError):  # which must not hide the first error
                    if all(name.startswith(".") for name in self._storage.children()):
                        self._folder.remove(RECORD)
                raise
            self._folder.write(RECORD, orjson.dumps({**record, "done": True}))

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write a file of a part."""
        self._write(name, chunks, self._data_set.write)

    def write_whole(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write a file on all parts."""
        self._write(name, chunks, self._data_set.write_whole)

    def write_card(self, card: str) -> None:
        """Write the last file, after what an attempt left that was killed is removed."""
        if self._is_left:
            for _, present in self._data_set.contents():
                for name in sorted(present):
                    if hash(name) not in self._names:
                        self._data_set.remove(name)
                        self.removed.append(name)
        self._data_set.sync()
        self._data_set.write_whole(CARD_FILE, [card.encode("utf-8", "replace")])

    @property
    def identity(self) -> str:
        """A hash of the files that were written."""
        return fingerprint("files", self._content.hexdigest())

    def _write(
        self,
        name: str,
        chunks: Iterable[bytes],
        write: Callable[[str, Iterable[bytes]], tuple[int, str]],
    ) -> None:
        before = self.described.files.get(name)
        written = write(name, self.described.passed(name, chunks))
        if before is not None and before != self.described.files[name]:
            raise PluginError(f"two formats write {name}, and not the same: use one of them")
        self._content.update(f"{name} {written}\n".encode())
        if self._is_left:
            self._names.add(hash(name))

    def _is_of_killed(self, source: str, identity: str) -> bool:
        """Whether an attempt at this very conversion was killed here.

        Raises:
            RunFolderError: There is something else.
        """
        kind = self._storage.kind("")
        if kind == "file":
            raise RunFolderError(f"{self.url} is a file: name a new or empty folder")
        names = self._storage.children() if kind == "directory" else []
        if RECORD in names:
            try:
                record = orjson.loads(self._storage.read(RECORD))
                before = str(record["source"]), str(record["identity"]), bool(record["done"])
            except (orjson.JSONDecodeError, KeyError, TypeError):
                before = "something else", "", False
            what = "the finished" if before[2] else "an unfinished"
            if before == (source, identity, False):
                return True
            raise RunFolderError(
                f"{self.url} holds {what} conversion of {before[0]}: name a new or empty folder, "
                f"or remove it first"
            )
        others = sorted(name for name in names if not name.startswith("."))
        if others:
            raise RunFolderError(
                f"{self.url} holds {others[0]!r}: name a new or empty folder for the conversion"
            )
        return False
