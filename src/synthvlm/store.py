"""The run folder: atomic shards, fingerprints and done-markers, on any fsspec URL.

A shard's files get names that are unique to the attempt. The done-marker that names them is
written last and is the commit: what no marker names does not exist, and is swept up later.
"""

from __future__ import annotations

import errno
import io
import json
import os
import posixpath
import time
import uuid
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthvlm.data import digest
from synthvlm.errors import RunFolderError, first_line

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Marker", "RunFolder", "StoredFile"]

RECIPE_FILE = "recipe.yaml"
#: Row groups are cut at this many bytes of table data, so that readers can stream.
ROW_GROUP_BYTES = 64 * 2**20
_EVENT_BUFFER = 256
#: Ending of a hidden file that is not whole yet.
_DRAFT = ".draft"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A committed file: path in the run folder, size in bytes, checksum (blake2b-128, hex)."""

    path: str
    size: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Marker:
    """The commit of a shard: what it depended on, its files, and counts for people."""

    fingerprint: str
    files: tuple[StoredFile, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def file(self, folder: str) -> str | None:
        """Path of the shard's file in a folder, e.g. ``pairs``; None where it has none."""
        return next((f.path for f in self.files if f.path.startswith(folder + "/")), None)


class RunFolder:
    """A run folder at a local path or any fsspec URL."""

    def __init__(self, url: str | Path) -> None:
        """Name a run folder; nothing is read or written yet."""
        import fsspec
        from fsspec.implementations.local import LocalFileSystem

        self.url = str(url)
        if not self.url.strip():
            raise RunFolderError("the run folder has no name: name a new or empty folder")
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise RunFolderError(f"run folder {self.url}: {error}") from None
        self._local = isinstance(self._fs, LocalFileSystem)
        self._worker = f"{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._events: list[bytes] = []
        self._event_files = 0

    def prepare(self) -> None:
        """Make the folder, or accept it as a run.

        Raises:
            RunFolderError: It holds other people's files, or cannot be written.
        """
        with self._failures_explained("open", ""):
            if self._fs.isfile(self._root):
                raise RunFolderError(f"{self.url} is a file: name a new folder for the run")
            if self._fs.isdir(self._root):
                names = [posixpath.basename(p.rstrip("/")) for p in self._fs.ls(self._root, False)]
                strangers = [name for name in names if not name.startswith(".")]
                if strangers and RECIPE_FILE not in names:
                    raise RunFolderError(
                        f"{self.url} is not a run folder: it holds {sorted(strangers)[0]!r} but no "
                        f"{RECIPE_FILE}; name a new or empty folder"
                    )
            self._fs.makedirs(self._root, exist_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold a local folder, so that no second run works in it; then clear what a kill left.

        Raises:
            RunFolderError: Another process holds it.
        """
        if not self._local:
            yield
            return
        import fcntl

        with self._failures_explained("lock", ""):
            folder = os.open(self._root, os.O_RDONLY)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFolderError(
                    f"another process is working in {self.url}: wait for it, or name another folder"
                ) from None
            # What a killed run was just writing; hidden, so nobody has read it.
            for draft in Path(self._root).rglob(f".*{_DRAFT}"):
                draft.unlink(missing_ok=True)
            yield
        finally:
            os.close(folder)

    def path(self, name: str) -> str:
        """Full path or URL of a name in the folder, for people and for other libraries."""
        if self._local:
            return str(Path(self._root) / name)
        return str(self._fs.unstrip_protocol(posixpath.join(self._root, name)))

    def local_path(self, name: str) -> str | None:
        """Path of a name where the folder is on this machine, else None."""
        return self.path(name) if self._local else None

    def exists(self, name: str) -> bool:
        """Whether a file of that name exists."""
        return bool(self._fs.isfile(self._at(name)))

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        with self._failures_explained("read", name):
            return bytes(self._fs.cat_file(self._at(name)))

    def write(self, name: str, data: bytes) -> StoredFile:
        """Write a whole file, so that a reader sees all of it or nothing of it."""
        with self._failures_explained("write", name):
            target = self._at(name)
            if not self._local:
                self._fs.pipe_file(target, data)
            else:
                self._write_local(Path(target), data)
        return StoredFile(name, len(data), digest([data]))

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        with self._failures_explained("remove", name):
            if self._fs.isfile(self._at(name)):
                self._fs.rm_file(self._at(name))

    def listing(self, folder: str) -> dict[str, int]:
        """Names (relative to the run folder) and sizes of all files below a folder."""
        with self._failures_explained("list", folder):
            try:
                found = self._fs.find(self._at(folder), detail=True)
            except FileNotFoundError:
                return {}
        prefix = self._at("").rstrip("/") + "/"
        return {
            path.removeprefix(prefix): int(info["size"] or 0)
            for path, info in found.items()
            if not posixpath.basename(path).startswith(".")
        }

    def write_table(self, folder: str, shard: int, table: pa.Table) -> StoredFile:
        """Write a shard's table as Parquet under a name unique to this attempt."""
        return self.write(
            f"{folder}/part-{shard:05d}-{uuid.uuid4().hex[:8]}.parquet", table_bytes(table)
        )

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a Parquet file, or some columns of it.

        Raises:
            RunFolderError: The file is damaged.
        """
        import pyarrow.parquet as pq

        with self._damage_explained(name), self._fs.open(self._at(name), "rb") as file:
            return pq.ParquetFile(file).read(columns=columns)

    def iter_rows(self, name: str, column: str, values: Container[Any]) -> Iterator[dict[str, Any]]:
        """Rows of a Parquet file whose column holds one of the values, a row group at a time.

        Raises:
            RunFolderError: The file is damaged.
        """
        import pyarrow.parquet as pq

        with self._damage_explained(name), self._fs.open(self._at(name), "rb") as file:
            parquet = pq.ParquetFile(file)
            for group in range(parquet.num_row_groups):
                keys = parquet.read_row_group(group, [column])[column].to_pylist()
                rows = [number for number, key in enumerate(keys) if key in values]
                if rows:
                    yield from parquet.read_row_group(group).take(rows).to_pylist()

    def markers(self, stage: str) -> dict[int, Marker]:
        """The done shards of a stage whose files are all there at their full size."""
        names = self.listing(f"done/{stage}")
        sizes: dict[str, int] = {}
        markers = {}
        for name in sorted(names):
            stem = posixpath.basename(name).removesuffix(".json")
            if not stem.isdecimal():
                continue
            try:
                content = json.loads(self.read(name))
                files = tuple(StoredFile(**entry) for entry in content["files"])
                marker = Marker(content["fingerprint"], files, content["facts"])
                parents = [_folder_within(file.path) for file in files]
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            for folder in parents:
                if folder not in sizes:
                    sizes[folder] = 1
                    sizes.update(self.listing(folder))
            if all(sizes.get(file.path) == file.size for file in files):
                markers[int(stem)] = marker
        return markers

    def commit(
        self,
        stage: str,
        shard: int,
        fingerprint: str,
        files: Iterable[StoredFile] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> Marker:
        """Write the done-marker of a shard: from here on its files exist."""
        marker = Marker(fingerprint, tuple(files), dict(facts or {}))
        self.write(f"done/{stage}/{shard:05d}.json", _json(asdict(marker)))
        return marker

    def sweep(self, stage: str, folders: Sequence[str], keep: Mapping[int, Marker]) -> None:
        """Remove the markers of shards that are no more, then files that no marker names."""
        for name in self.listing(f"done/{stage}"):
            stem = posixpath.basename(name).removesuffix(".json")
            if not stem.isdecimal() or int(stem) not in keep:
                self.remove(name)
        named = {file.path for marker in keep.values() for file in marker.files}
        for folder in folders:
            for name in self.listing(folder):
                if name not in named:
                    self.remove(name)

    def event(self, kind: str, **facts: Any) -> None:
        """Note what happened, for machines; ``flush_events`` makes it a file."""
        self._events.append(_json({"time": round(time.time(), 3), "event": kind, **facts}))
        if len(self._events) >= _EVENT_BUFFER:
            self.flush_events()

    def flush_events(self) -> None:
        """Write the noted events as a new file (object stores cannot append)."""
        if self._events:
            name = f"events/{self._worker}-{self._event_files:05d}.jsonl"
            self.write(name, b"\n".join(self._events) + b"\n")
            self._event_files += 1
            self._events.clear()

    def events(self) -> list[dict[str, Any]]:
        """All events of the run, in the order of their times."""
        found = []
        for name in self.listing("events"):
            for line in self.read(name).splitlines():
                try:
                    event = json.loads(line)
                    found.append((float(event["time"]), event))
                except (ValueError, KeyError, TypeError):
                    continue
        return [event for _, event in sorted(found, key=lambda pair: pair[0])]

    def _at(self, name: str) -> str:
        return posixpath.join(self._root, name) if name else str(self._root)

    def _write_local(self, target: Path, data: bytes) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{uuid.uuid4().hex[:16]}{_DRAFT}")
        try:
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    @contextmanager
    def _failures_explained(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = self.path(name) if name else self.url
            raise RunFolderError(f"cannot {verb} {where}: {_explain(error)}") from error

    @contextmanager
    def _damage_explained(self, name: str) -> Iterator[None]:
        """As ``_failures_explained``, for reading Parquet."""
        import pyarrow as pa

        with self._failures_explained("read", name):
            try:
                yield
            except (pa.ArrowException, OSError) as error:
                if isinstance(error, OSError) and (error.errno or type(error) is not OSError):
                    raise  # the file system's: decoders raise plain OSError without a number
                raise RunFolderError(
                    f"{self.path(name)} is damaged ({first_line(error)}): delete it and run again"
                ) from None


def table_bytes(table: pa.Table) -> bytes:
    """A table as Parquet with row groups of at most about 64 MB of data."""
    import pyarrow.parquet as pq

    per_row = max(1, table.nbytes // max(1, table.num_rows))
    sink = io.BytesIO()
    pq.write_table(
        table, sink, row_group_size=max(1, ROW_GROUP_BYTES // per_row), compression="zstd"
    )
    return sink.getvalue()


def _explain(error: OSError) -> str:
    advice = {
        errno.ENOSPC: "no space left on the device; free some and run again",
        errno.EDQUOT: "the disk quota is used up; free some and run again",
        errno.EFBIG: "the file-size limit is reached; raise it (ulimit -f) and run again",
        errno.EACCES: "permission denied; choose a folder that you may write",
        errno.EPERM: "not permitted; choose a folder that you may write",
        errno.EROFS: "the file system is read-only; choose another folder",
        errno.ENOTDIR: "a part of the path is a file; choose another folder",
        errno.EEXIST: "what is there is not a folder; choose another folder",
    }.get(error.errno or 0)
    if advice is None:
        return error.strerror or first_line(error)
    return f"{advice} (what is finished is kept)"


def _folder_within(path: str) -> str:
    """First part of a path in the run folder; ValueError if it leads out of it."""
    if posixpath.isabs(path) or posixpath.normpath(path) != path or path.startswith(".."):
        raise ValueError(path)
    return path.split("/", 1)[0]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True).encode("utf-8", "replace")
