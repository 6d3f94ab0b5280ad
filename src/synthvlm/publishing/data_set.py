"""The finished data set of a run: its files, checked against the records of the export."""

from __future__ import annotations

import hashlib
import posixpath
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from synthvlm.data import digest, fingerprint
from synthvlm.errors import RunFolderError, SynthVLMError
from synthvlm.exporters.edited_card import is_intact

if TYPE_CHECKING:
    from synthvlm.run_folder.folder import RunFolder

__all__ = [
    "CARD",
    "FOLDERS",
    "INDEXES",
    "DataSetFile",
    "FinishedDataSet",
    "PublishingError",
    "StagedFile",
]


class PublishingError(SynthVLMError):
    """A data set is incomplete or damaged, or its target refuses it."""


CARD = "README.md"
#: Where exporters write: files beside the card, and folders.
INDEXES = (
    "llava.json",
    "llava-validation.json",
    "dataset_info.json",
    "train.jsonl",
    "validation.jsonl",
    "croissant.json",
)
FOLDERS = ("data", "messages", "webdataset", "images")
_FOLDER = "dataset"
#: Names that exporters give to files; the groups are the number of the part.
_EXPORTED = re.compile(
    r"(?:data|messages|webdataset)/(?:train|validation)-(\d+)-\d+\.(?:parquet|tar|tar\.idx)"
    r"|images/(\d+)/[^/]+"
    r"|webdataset/sizes\.json|webdataset/\.nv-meta/(?:\.info\.json|split\.yaml|dataset\.yaml)"
    rf"|{'|'.join(map(re.escape, INDEXES))}"
)
#: Readers take every file with such a name for a part of the data set.
_READ_AS_PART = re.compile(rf"({'|'.join(FOLDERS)})/.*|{'|'.join(map(re.escape, INDEXES))}")
_READERS = 8
#: Larger files (in bytes) are read one at a time, because each is in memory as a whole.
_LARGE = 64 * 2**20


@dataclass(frozen=True, slots=True)
class DataSetFile:
    """The record of a file: name in the data set, size in bytes, checksum (blake2b-128, hex).

    Runs that were exported before checksums were recorded have None as checksum.
    """

    name: str
    size: int
    checksum: str | None


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A checked file on this machine: name in the data set, path, size in bytes, SHA-256."""

    name: str
    path: str
    size: int
    sha256: bytes


class FinishedDataSet:
    """The data set of a run whose export is done.

    Attributes:
        identity: A hash of the content of the data set, without its card.
        last: The files that describe all others; the last one is the card.
    """

    def __init__(self, run: RunFolder) -> None:
        """Read its marker. The records of parts are read when they are needed.

        Raises:
            PublishingError: There is none, it is incomplete, or a record is lost.
            RunFolderError: The folder cannot be read.
        """
        self._run = run
        whole = run.markers("dataset").get(0)
        files = {} if whole is None else self._records(whole.facts.get("files", {}))
        if whole is None or CARD not in files or not run.exists(f"{_FOLDER}/{CARD}"):
            raise PublishingError(
                f"{run.url} has no finished data set: finish it with "
                f"`synthvlm export --out {run.url}`"
            )
        self._parts = run.markers("export")
        if len(self._parts) != len(run.listing("done/export")):
            raise self._damage("records of its export are missing")
        self._whole = whole
        files[CARD] = self._card(files[CARD])
        checksums = [file.checksum for _, m in sorted(self._parts.items()) for file in m.files]
        others = {name: entry for name, entry in whole.facts["files"].items() if name != CARD}
        self.identity = fingerprint(whole.fingerprint, checksums, others)
        self.last = [file for name, file in files.items() if name != CARD] + [files[CARD]]
        self.part = lru_cache(maxsize=4)(self._part)

    @property
    def url(self) -> str:
        """Where it is."""
        return self._run.path(_FOLDER)

    def parts(self) -> Iterator[dict[str, DataSetFile]]:
        """The files of each part, in order, by name."""
        for number in sorted(self._parts):
            yield self.part(number)

    def holds(self, name: str) -> bool | None:
        """Whether a file at a target belongs to this data set.

        Returns:
            True if it does; False if an exporter wrote it for another data set; None if no exporter
            wrote it, but it would be read as a part of the data set.

        Raises:
            KeyError: No reader would take it for a part of the data set.
        """
        written = _EXPORTED.fullmatch(name)
        if written is None:
            if _READ_AS_PART.fullmatch(name):
                return None
            raise KeyError(name)
        number = written[1] or written[2]
        if number is None:
            return any(file.name == name for file in self.last)
        return int(number) in self._parts and name in self.part(int(number))

    @contextmanager
    def staged(self, files: Sequence[DataSetFile]) -> Iterator[list[StagedFile]]:
        """Provide files on this machine, each compared with its record.

        Raises:
            PublishingError: One is damaged.
            RunFolderError: One cannot be read.
        """
        large = threading.Lock()
        with (
            tempfile.TemporaryDirectory(prefix="synthvlm-publish-") as folder,
            ThreadPoolExecutor(_READERS) as readers,
        ):

            def stage(numbered: tuple[int, DataSetFile]) -> StagedFile:
                number, file = numbered
                if file.size < _LARGE:
                    return self._stage(file, Path(folder, str(number)))
                with large:
                    return self._stage(file, Path(folder, str(number)))

            yield list(readers.map(stage, enumerate(files)))

    def check_unchanged(self) -> None:
        """Check that no run has changed the data set since.

        Raises:
            PublishingError: A run has.
        """
        now = self._run.markers("dataset").get(0)
        if now is None or now != self._whole:
            raise PublishingError(
                f"{self.url} changed while it was published: run the same command again"
            )

    def _card(self, recorded: DataSetFile) -> DataSetFile:
        """The card as it is, which a user may have edited."""
        card = self._run.read(f"{_FOLDER}/{CARD}")
        present = DataSetFile(CARD, len(card), digest([card]))
        if present == recorded or recorded.checksum is None:
            return recorded
        if is_intact(card, self._whole.facts.get("card")):
            return present
        raise PublishingError(
            f"{self.url}/{CARD} was changed within the part that each export writes: "
            f"`synthvlm export --out {self._run.url}` writes that part anew and keeps the rest"
        )

    def _part(self, number: int) -> dict[str, DataSetFile]:
        return self._records(orjson.loads(self._run.read(self._record_name(number))))

    def _record_name(self, number: int) -> str:
        """Path of the record of a part's files, which a damaged marker may not name."""
        for file in self._parts[number].files:
            if file.path.startswith("export-parts/files-"):
                return file.path
        raise self._damage("records of its export are missing")

    def _stage(self, file: DataSetFile, copy: Path) -> StagedFile:
        name = f"{_FOLDER}/{file.name}"
        try:
            data = self._run.read(name)
        except RunFolderError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise self._damage(f"{file.name} is missing") from error
            raise
        checksum = digest([data])
        if len(data) != file.size or checksum != (file.checksum or checksum):
            raise self._damage(f"{file.name} differs from what was exported")
        path = self._run.local_path(name)
        if path is None:
            copy.write_bytes(data)
            path = str(copy)
        return StagedFile(file.name, path, len(data), hashlib.sha256(data).digest())

    def _records(self, entries: dict[str, Any]) -> dict[str, DataSetFile]:
        """Decode records: the size of each file, or its size and checksum."""
        records = {}
        for name, record in entries.items():
            # The names become paths at the target, and the run folder may be untrusted.
            if posixpath.normpath(name) != name or name.startswith(("/", "../")):
                raise self._damage(f"its export names {name!r}")
            size, checksum = (record, None) if isinstance(record, int) else record
            records[name] = DataSetFile(name, size, checksum)
        return records

    def _damage(self, what: str) -> PublishingError:
        return PublishingError(
            f"{self.url} is damaged ({what}): run `synthvlm verify {self._run.url}`"
        )
