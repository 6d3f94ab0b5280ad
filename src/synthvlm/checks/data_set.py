"""Whether the files of the data set are those that its export recorded."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import orjson

from synthvlm.checks.checked_run import Found
from synthvlm.checks.snapshot import Snapshot
from synthvlm.run_folder.marker import Marker
from synthvlm.stages.data_set_folder import FOLDER, DataSetFolder
from synthvlm.stages.export import CARD_FILE, FILES, part_record_file

if TYPE_CHECKING:
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["DataSetChecks", "Record"]

#: Sizes and checksums (None: not recorded) by name in the run folder.
Record = dict[str, tuple[int, str | None]]


class DataSetChecks:
    """Checks parts of the data set, and what tells of all of them."""

    def __init__(self, look: Snapshot) -> None:
        """Nothing is read yet."""
        self._look = look
        #: Which parts have files in a folder; None: not known, for a record is damaged.
        self._parts: dict[str, list[str]] | None = {}
        self._whole: set[str] = set()

    def part(self, found: Found, marker: Marker, data: Mapping[str, bytes]) -> None:
        """Check the files of a part against its record (``data``: its sound files, by path)."""
        path = part_record_file(marker, FILES)
        record = _record(data[path]) if path is not None and path in data else None
        if record is None:
            self._parts = None
            if path is None:
                found.marker("damaged", "it names no record of its files")
            elif path in data:
                found.add(path, "damaged", "it is no record of names, sizes and checksums")
            return
        if self._parts is not None and path is not None:
            for folder in {posixpath.dirname(name) for name in record}:
                self._parts.setdefault(folder, []).append(path)
        for name, flaw in self._look.flaws(record):
            found.add(name, flaw.kind, str(flaw))

    def skip(self) -> None:
        """Something will be written anew: which files belong to it is not known yet."""
        self._parts = None

    def whole(self, found: Found, marker: Marker) -> None:
        """Check the indexes and the card."""
        record = _record(orjson.dumps(marker.facts.get("files"), default=str))
        if record is None or f"{FOLDER}/{CARD_FILE}" not in record:
            found.marker("damaged", "it does not name the files of the data set")
            return
        self._whole = set(record)
        for name, flaw in self._look.flaws(record):
            found.add(name, flaw.kind, str(flaw))

    def strays(self, run: RunFolder) -> Iterator[str]:
        """Files that no record names; none where a record is damaged."""
        if self._parts is None:
            return
        for within, present in DataSetFolder(run).contents():
            strangers = {posixpath.join(FOLDER, name) for name in present} - self._whole
            for path in self._parts.get(posixpath.join(FOLDER, within).rstrip("/"), ()):
                strangers -= set(_record(run.read(path)) or ())
            yield from sorted(strangers)


def _record(data: bytes) -> Record | None:
    """A record, its names relative to the run folder; None where it is none."""
    try:
        return {
            posixpath.join(FOLDER, name): (int(of[0]), str(of[1]))
            if isinstance(of, list)
            else (int(of), None)
            for name, of in orjson.loads(data).items()
        }
    except (ValueError, TypeError, AttributeError, IndexError):
        return None
