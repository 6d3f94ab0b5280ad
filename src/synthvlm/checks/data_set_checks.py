"""Whether the files of the exported data set are those that the export recorded."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

import orjson

from synthvlm.checks.checked_run import CheckedRun, CheckedShard
from synthvlm.stages.data_set_folder import (
    CARD_FILE,
    FOLDER,
    DataSetFolder,
    files_with_card,
    present_card,
)
from synthvlm.stages.export import FILES, is_current_data_set, part_record_file
from synthvlm.stages.image_marks import UNMARKED, is_unmarked

__all__ = ["DataSetChecks", "is_read"]

#: Endings of files that readers of data sets look for, compressed or not.
_READ = (
    ".parquet", ".json", ".jsonl", ".csv", ".tsv", ".txt", ".arrow", ".tar", ".zip",
    ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff",
)  # fmt: skip
_COMPRESSED = re.compile(r"\.(gz|bz2|xz|zst)$")


def is_read(name: str) -> bool:
    """Whether a reader of data sets may take a file for a part of one, by its name."""
    return _COMPRESSED.sub("", name.lower()).endswith(_READ)


#: Sizes and checksums (None if not recorded) of files, by name in the run folder.
Record = dict[str, tuple[int, str | None]]


class DataSetChecks:
    """Checks of the exported data set: its parts, and the files about all of them."""

    def __init__(self, run: CheckedRun) -> None:
        """Nothing is read yet."""
        self._run, self._snapshot = run, run.snapshot
        #: Paths of the records that name files of a folder; None if not all records are known.
        self._records: dict[str, list[str]] | None = {}
        self._whole: set[str] = set()

    def part(self, shard: CheckedShard) -> None:
        """The files of a part are those of its record."""
        parts = self._run.parts
        if parts is not None and parts.get(shard.number) != shard.marker.fingerprint:
            # The next run writes the whole part anew, so its content does not matter.
            changed = "its pairs, or the settings of export, have changed"
            shard.add_for_marker("stale", UNMARKED if is_unmarked(shard.marker) else changed)
            self._records = None
            return
        path = part_record_file(shard.marker, FILES)
        record = _record(shard.files[path]) if path in shard.files else None
        if path is None:
            shard.add_for_marker("damaged", "it names no record of its files")
        elif path in shard.files and record is None:
            shard.add(path, "damaged", "it is not a record of names, sizes and checksums")
        if path is None or record is None:
            self._records = None
            return
        if self._records is not None:
            for folder in {posixpath.dirname(name) for name in record}:
                self._records.setdefault(folder, []).append(path)
        self._compare(shard, record)

    def whole(self, shard: CheckedShard) -> None:
        """The indexes and the card are those that were recorded."""
        parts = self._run.parts
        run = self._run
        if parts is not None and not is_current_data_set(
            run.recipe, parts, run.markers("curate"), run.generated, run.marks, shard.marker
        ):
            shard.add_for_marker("stale", "its parts, or the recipe, have changed")
            self._records = None
            return
        files = shard.marker.facts.get("files")
        if isinstance(files, dict):
            files = files_with_card(shard.marker, present_card(run.run))
        record = _record(orjson.dumps(files, default=str))
        if record is None or f"{FOLDER}/{CARD_FILE}" not in record:
            shard.add_for_marker("damaged", "it does not name the files of the data set")
            return
        self._whole = set(record)
        self._compare(shard, record)

    def strays(self) -> Iterator[str]:
        """Files that no record names; none if not all records are known."""
        if self._records is None:
            return
        for folder, files in DataSetFolder(self._run.run).contents():
            strays = {posixpath.join(FOLDER, name) for name in files} - self._whole
            for path in self._records.get(posixpath.join(FOLDER, folder).rstrip("/"), ()):
                strays -= set(_record(self._run.run.read(path)) or ())
            yield from sorted(strays)

    def _compare(self, shard: CheckedShard, record: Record) -> None:
        for name, flaw in self._snapshot.flaws(record):
            shard.add(name, flaw.kind, str(flaw))


def _record(data: bytes) -> Record | None:
    """Decode a record, with names relative to the run folder; None if it is not a record."""
    try:
        return {
            posixpath.join(FOLDER, name): (int(entry[0]), str(entry[1]))
            if isinstance(entry, list)
            else (int(entry), None)
            for name, entry in orjson.loads(data).items()
        }
    except (ValueError, TypeError, AttributeError, IndexError):
        return None
