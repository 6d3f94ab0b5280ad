"""Publishing to a folder: a local path or any fsspec URL."""

from __future__ import annotations

import os
import posixpath
import shutil
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from synthvlm.data import digest
from synthvlm.errors import RunFolderError
from synthvlm.models.remote_errors import missing_file_system
from synthvlm.publishing.data_set import (
    CARD,
    FOLDERS,
    INDEXES,
    DataSetFile,
    PublishingError,
    StagedFile,
)
from synthvlm.run_folder.storage import DRAFT, Clock, Storage

__all__ = ["FolderTarget"]

#: Says which data set was last published here, completely or not.
_RECORD = ".synthvlm-published.json"
_WRITERS = 8


class FolderTarget:
    """A folder that is empty, or to which a data set was published before.

    A file with the right size counts as present if the same data set was published last. A hidden
    file, which is written before all others, says which data set that was.

    Attributes:
        url: The folder.
    """

    is_hub = False

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        """Create the target; nothing is read yet.

        Raises:
            MissingExtraError: Its file system needs a package that is not installed.
            PublishingError: There is no such file system.
        """
        from fsspec.core import url_to_fs

        try:
            self._fs, root = url_to_fs(url)
        except ImportError as error:
            raise missing_file_system(url, error) from error
        except ValueError as error:
            raise PublishingError(f"cannot publish to {url}: {error}") from error
        self._storage = Storage(url, clock=clock)
        self._root = str(root).rstrip("/")
        self._identity = ""
        self._trusted = self._changed = False
        self.url = url if "://" in url else str(Path(url).absolute())

    def open(self, identity: str, *, write: bool) -> None:
        """Check that the folder is empty, or holds a published data set."""
        self._identity = identity
        kind = self._storage.kind("")
        if kind == "file":
            raise PublishingError(f"cannot publish to {self.url}: it is a file; name a folder")
        names = self._storage.children() if kind == "directory" else []
        if _RECORD in names:
            self._trusted = self._recorded() == identity
            return
        other_files = sorted(name for name in names if not name.startswith("."))
        if other_files:
            raise PublishingError(
                f"cannot publish to {self.url}: it contains {other_files[0]!r}; name a new or "
                "empty folder, or one to which a data set was published"
            )
        if write:
            self._storage.make()
        else:
            self._storage.check_bucket()

    def is_within(self, url: str) -> bool:
        """Whether it is the folder ``url``, or inside it."""
        from fsspec.core import url_to_fs

        fs, root = url_to_fs(url)
        return type(fs) is type(self._fs) and f"{self._root}/".startswith(f"{root.rstrip('/')}/")

    def names(self) -> Iterator[str]:
        """Names of the files in the places where exporters write, one folder at a time."""
        yield from (name for name in INDEXES if self._storage.kind(name) == "file")
        for folder in FOLDERS:
            if folder != "images":  # may have a million files
                yield from self._storage.listing(folder)
        for info in self._storage.attempt("list", "images", self._images):
            name = f"images/{posixpath.basename(info['name'].rstrip('/'))}"
            if info["type"] == "directory":
                yield from self._storage.listing(name)
            else:
                yield name

    def unconfirmed(self, files: Sequence[DataSetFile]) -> list[DataSetFile]:
        """Those that are missing, have another size, or are from another data set."""
        if not self._trusted:
            return list(files)
        sizes: dict[str, int | None] = {}
        for folder in {posixpath.dirname(file.name) for file in files} - {""}:
            sizes |= {name: e.size for name, e in self._storage.listing(folder).items()}
        alone = [f.name for f in files if "/" not in f.name or posixpath.basename(f.name)[0] == "."]
        sizes |= {name: self._storage.size(name) for name in alone}
        return [f for f in files if sizes.get(f.name) != f.size or self._is_other_card(f)]

    def _is_other_card(self, file: DataSetFile) -> bool:
        """Whether a file is the card, and not the one that is here: users edit it."""
        return file.name == CARD and digest([self._storage.read(CARD)]) != file.checksum

    def missing(self, files: Sequence[StagedFile]) -> list[StagedFile]:
        """All of them."""
        return list(files)

    def send(self, files: Sequence[StagedFile]) -> None:
        """Copy files, several in parallel."""
        if files:
            self._begin()
            with ThreadPoolExecutor(_WRITERS) as writers:
                for _ in writers.map(self._copy, files):
                    pass

    def finish(self, card: StagedFile, remove: Sequence[str]) -> None:
        """Remove the files of another data set, then write the card."""
        self._begin()
        for name in remove:
            self._storage.remove(name)
        if self._storage.is_local:
            os.sync()  # after a power loss, there must be no card without the files
        self._copy(card)

    def _begin(self) -> None:
        if not self._changed:
            self._storage.remove(CARD)
            self._storage.write(_RECORD, orjson.dumps({"data_set": self._identity}))
            self._changed = True

    def _copy(self, file: StagedFile) -> None:
        target = posixpath.join(self._root, file.name)

        def copy() -> None:
            if self._storage.is_local:
                _copy_local(file.path, Path(target))
            else:
                self._fs.put_file(file.path, target)

        self._storage.attempt("write", file.name, copy, fresh=False)

    def _recorded(self) -> str | None:
        try:
            record = orjson.loads(self._storage.read(_RECORD))
            return str(record["data_set"])
        except (RunFolderError, ValueError, KeyError, TypeError):
            return None

    def _images(self) -> list[dict[str, Any]]:
        try:
            return list(self._fs.ls(posixpath.join(self._root, "images"), detail=True))
        except FileNotFoundError:
            return []


def _copy_local(source: str, target: Path) -> None:
    """Copy atomically: a reader sees all of the file, or none of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{uuid.uuid4().hex[:16]}{DRAFT}")
    try:
        shutil.copyfile(source, draft)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
