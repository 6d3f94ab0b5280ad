"""The run folder: atomic shards, fingerprints and done-markers, on any fsspec URL.

The files of a shard get names that are unique to the attempt. The done-marker that names them is
written last and is the commit: a file that no marker names does not count, and is removed later.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthvlm.data import digest
from synthvlm.errors import RunFolderError
from synthvlm.run_folder import tables
from synthvlm.run_folder.lock import Lock
from synthvlm.run_folder.marker import Marker, StoredFile, marker_name, shard_of
from synthvlm.run_folder.storage import Clock, Entry, Storage
from synthvlm.run_folder.tables import table_bytes
from synthvlm.safe_text import without_secrets

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PIPED", "RECIPE_FILE", "Marker", "RunFolder", "StoredFile", "table_bytes"]

RECIPE_FILE = "recipe.yaml"
#: Folder of captions that were piped in.
PIPED = "piped"
#: Buffered events are written when there are this many, or this many seconds after the last write.
_EVENT_BUFFER = 256
_EVENT_SECONDS = 5.0


class RunFolder:
    """A run folder at a local path or any fsspec URL.

    It can be sent to other processes and machines. There it belongs to the run that sent it, and
    commits nothing once that run has lost the folder to another one.
    """

    def __init__(self, url: str | Path, *, clock: Clock | None = None) -> None:
        """Create a run folder object; nothing is read or written yet.

        Args:
            url: A local path or any fsspec URL.
            clock: For pauses between attempts, heartbeats and the flushing of events.
        """
        self.url = str(url)
        if not self.url.strip():
            raise RunFolderError("the name of the run folder is empty: name a new or empty folder")
        self._clock = clock or Clock()
        self._storage = Storage(self.url, clock=self._clock)
        self._lock = Lock(self._storage)
        self._known: dict[str, tuple[Entry, Marker | None]] = {}
        self._worker = f"{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._events: list[bytes] = []
        self._event_files = 0
        self._flushed = self._clock.monotonic()

    def __reduce__(self) -> tuple[type[RunFolder], tuple[str], str | None]:
        """Pickle the absolute name, and the token of the run's lock."""
        if not self._storage.is_shared:
            raise RunFolderError(
                f"{self.url} is in the memory of this process, where workers in other processes "
                f"cannot see it: use a folder or a bucket, or a single worker"
            )
        return RunFolder, (self._storage.absolute_url,), self._lock.token

    def __setstate__(self, token: str) -> None:
        """Belong to the run that sent it; not called for a folder that belongs to none."""
        self._lock.token = token
        self._storage.is_made = True

    def prepare(self) -> None:
        """Create the folder, or check that it is a run folder.

        Raises:
            RunFolderError: It holds other files, or cannot be written.
        """
        kind = self._storage.kind("")
        if kind == "file":
            raise RunFolderError(f"{self.url} is a file: name a new folder for the run")
        if kind == "directory":
            names = self._storage.children()
            other_files = [name for name in names if not name.startswith(".") and name != PIPED]
            if other_files and RECIPE_FILE not in names and not self.holds_work():
                raise RunFolderError(
                    f"{self.url} is not a run folder: it contains {sorted(other_files)[0]!r} but "
                    f"no {RECIPE_FILE}; name a new or empty folder"
                )
        self._storage.make()

    def holds_work(self) -> bool:
        """Whether a run has committed something, whatever became of its recipe."""
        return bool(self.listing("done/measure") or self.listing("done/generate"))

    @contextmanager
    def held(
        self,
        state: Callable[[], Mapping[str, Any]] | None = None,
        note: Callable[[str], None] = lambda line: None,
        period_s: float | None = None,
    ) -> Iterator[None]:
        """Hold the folder while a run works in it; see ``Lock.held``.

        In a local folder, incomplete files of killed processes are then removed.

        Args:
            state: Returns what the run is doing, for ``lock_info``.
            note: Takes a line for the user: why it waits, or that the lock is lost.
            period_s: Seconds between heartbeats; by default 10.

        Raises:
            RunFolderError: Another run holds it.
        """
        self._storage.note = note
        with self._lock.held(state, note, period_s):
            self._storage.remove_drafts()
            yield

    def lock_info(self) -> dict[str, Any] | None:
        """Who works in the folder, since when, and how far it is; None if it is not locked.

        Keys: see ``Lock.info``.
        """
        return self._lock.info()

    def path(self, name: str) -> str:
        """Full path or URL of a name in the folder."""
        return self._storage.path(name)

    def local_path(self, name: str) -> str | None:
        """Full path of a name; None if the folder is not on this machine."""
        return self.path(name) if self._storage.is_local else None

    def exists(self, name: str) -> bool:
        """Whether a file of that name exists."""
        return self._storage.kind(name) == "file"

    def read(self, name: str) -> bytes:
        """Read a file."""
        return self._storage.read(name)

    def write(self, name: str, data: bytes) -> StoredFile:
        """Write a file atomically: a reader sees all of it, or the previous one.

        Raises:
            RunFolderError: It cannot be written, or the run that this belongs to lost the folder.
        """
        self._lock.check()
        self._storage.write(name, data)
        return StoredFile(name, len(data), digest([data]))

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        self._storage.remove(name)

    def listing(self, folder: str) -> dict[str, int]:
        """Names (relative to the run folder) and sizes of all files below a folder."""
        return {name: entry.size for name, entry in self._storage.listing(folder).items()}

    def make_parent(self, path: Path) -> None:
        """Make the folder of a file of a local run folder; see ``Storage.make_parent``."""
        self._storage.make_parent(path)

    def check_within(self, name: str) -> None:
        """Check that a name stays in the folder.

        Raises:
            RunFolderError: It leads out of the folder, by itself or by a symbolic link.
        """
        self._storage.check_within(name)

    def failures_explained(self, verb: str, name: str) -> AbstractContextManager[None]:
        """Turn errors of the file system into a ``RunFolderError`` of one line."""
        return self._storage.explained(verb, name)

    def damage_explained(self, name: str) -> AbstractContextManager[None]:
        """Like ``failures_explained``, for code that reads Parquet."""
        return tables.damage_explained(self._storage, name)

    def write_table(self, folder: str, shard: int, table: pa.Table) -> StoredFile:
        """Write a shard's table as Parquet under a name unique to this attempt."""
        name = f"{_table_name(folder, shard)}{uuid.uuid4().hex[:8]}.parquet"
        return self.write(name, table_bytes(table))

    def tables_of(self, folder: str, shard: int) -> list[str]:
        """Names of a shard's tables in a folder, including those that no marker names."""
        start = _table_name(folder, shard)
        return [name for name in self.listing(folder) if name.startswith(start)]

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a Parquet file, or some of its columns.

        Raises:
            RunFolderError: The file is damaged.
        """
        return tables.read_table(self._storage, name, columns)

    def columns(self, name: str) -> list[str]:
        """Names of the columns of a Parquet file.

        Raises:
            RunFolderError: The file is damaged.
        """
        return tables.columns(self._storage, name)

    def row_groups(self, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Read a Parquet file, or some of its columns, one row group at a time.

        Raises:
            RunFolderError: The file is damaged.
        """
        return tables.row_groups(self._storage, name, columns)

    def row_group_sizes(self, name: str) -> list[int]:
        """How many rows each row group of a Parquet file has.

        Raises:
            RunFolderError: The file is damaged.
        """
        return tables.row_group_sizes(self._storage, name)

    def row_group(self, name: str, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a row group of a Parquet file, or some of its columns.

        Raises:
            RunFolderError: The file is damaged.
        """
        return tables.row_group(self._storage, name, group, columns)

    def iter_rows(self, name: str, column: str, values: Container[Any]) -> Iterator[dict[str, Any]]:
        """Read the rows in which a column has one of some values, one row group at a time.

        Raises:
            RunFolderError: The file is damaged.
        """
        return tables.iter_rows(self._storage, name, column, values)

    def markers(self, stage: str) -> dict[int, Marker]:
        """The done shards of a stage whose files all exist with the right size.

        Markers that this object has read before are only read again if they have changed.
        """
        entries = self._storage.listing(f"done/{stage}")
        shards = {name: number for name in entries if (number := shard_of(name)) is not None}
        known = {n: self._known[n] for n in shards if self._known.get(n, (0,))[0] == entries[n]}
        changed = [name for name in shards if name not in known]
        for name, data in self._storage.read_many(changed).items():
            known[name] = entries[name], Marker.from_json(data)
        sizes: dict[str, int] = {}
        markers = {}
        for name in sorted(shards, key=shards.__getitem__):
            marker = known[name][1] if name in known else None
            if marker is None:
                continue
            for folder in {file.folder for file in marker.files} - sizes.keys():
                sizes[folder] = -1
                sizes.update(self.listing(folder))
            if all(sizes.get(file.path) == file.size for file in marker.files):
                markers[shards[name]] = marker
        self._known |= {n: k for n, k in known.items() if k[0].version}
        return markers

    def marker(self, stage: str, shard: int) -> Marker | None:
        """The marker of one shard, if its files all exist with the right size."""
        data = self._storage.read_if_exists(marker_name(stage, shard))
        marker = None if data is None else Marker.from_json(data)
        if marker is None or any(self._storage.size(f.path) != f.size for f in marker.files):
            return None
        return marker

    def commit(
        self,
        stage: str,
        shard: int,
        fingerprint: str,
        files: Iterable[StoredFile] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> Marker:
        """Write the done-marker of a shard: from now on its files count.

        Raises:
            RunFolderError: It cannot be written, or another run took over the folder.
        """
        marker = Marker(fingerprint, tuple(files), dict(facts or {}))
        self.write(marker_name(stage, shard), marker.to_json())
        return marker

    def sweep(self, stage: str, folders: Sequence[str], keep: Mapping[int, Marker]) -> None:
        """Remove the markers of other shards, then files that no remaining marker names.

        No process may be writing to these folders: incomplete files are removed as well.

        Args:
            stage: Its markers are swept.
            folders: The folders that hold the stage's files and nothing else.
            keep: The markers of the shards that stay.

        Raises:
            RunFolderError: A file cannot be removed, or another run took over the folder.
        """
        self._lock.check()
        for name in self.listing(f"done/{stage}"):
            if shard_of(name) not in keep:
                self.remove(name)
        named = {file.path for marker in keep.values() for file in marker.files}
        for folder in folders:
            for name in self.listing(folder):
                if name not in named:
                    self.remove(name)
        for folder in (f"done/{stage}", *folders):
            self._storage.remove_drafts(folder)

    def event(self, kind: str, **facts: Any) -> None:
        """Record an event without secrets; they are written to a file every few seconds."""
        self._events.append(_json({"time": round(time.time(), 3), "event": kind, **facts}))
        waited = self._clock.monotonic() - self._flushed
        if len(self._events) >= _EVENT_BUFFER or waited >= _EVENT_SECONDS:
            self.flush_events()

    def flush_events(self) -> None:
        """Write the buffered events as a new file (object stores cannot append)."""
        self._flushed = self._clock.monotonic()
        if self._events:
            name = f"events/{self._worker}-{self._event_files:05d}.jsonl"
            self.write(name, b"\n".join(self._events) + b"\n")
            self._event_files += 1
            self._events.clear()

    def events(self) -> list[dict[str, Any]]:
        """All events of the run, ordered by time."""
        return self.json_lines("events")[0]

    def json_lines(self, folder: str) -> tuple[list[dict[str, Any]], int]:
        """The objects of all JSON lines below a folder, by their ``time``, then by their file.

        A damaged line costs only itself; their number comes second.
        """
        objects, damaged = [], 0
        for name, data in self._storage.read_many(list(self._storage.listing(folder))).items():
            for line in data.splitlines():
                try:
                    value = json.loads(line)
                    objects.append((float(value["time"]), name, value))
                except (ValueError, KeyError, TypeError, RecursionError):
                    damaged += 1
        return [value for *_, value in sorted(objects, key=lambda one: one[:2])], damaged


def _json(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return without_secrets(text).encode("utf-8", "replace")


def _table_name(folder: str, shard: int) -> str:
    """Prefix of the names of a shard's tables."""
    return f"{folder}/part-{shard:05d}-"
