"""Reads a run folder for verification, while a run may replace its files."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from synthvlm.checks.findings import Kind
from synthvlm.data import digest, remark_column
from synthvlm.errors import RunFolderError, first_line
from synthvlm.run_folder.marker import Marker, StoredFile, marker_name, shard_of, stage_of
from synthvlm.run_folder.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from synthvlm.run_folder.folder import RunFolder

__all__ = ["Flaw", "Snapshot", "parquet", "table"]

#: Number of files that are read in parallel, and about how many bytes of them are in memory.
_MANY, _MANY_BYTES = 128, 64 * 2**20


class Flaw(Exception):
    """A file is damaged or missing; the message says how."""

    def __init__(self, kind: Kind, problem: str) -> None:
        """Set the kind of the finding, and what is wrong."""
        super().__init__(problem)
        self.kind = kind


class Snapshot:
    """Reads the files of one shard, and knows whether its markers have changed since.

    Attributes:
        files: Number of files that were read.
        size: Their total size in bytes.
    """

    def __init__(self, run: RunFolder) -> None:
        """Nothing is read yet."""
        self._storage = Storage(run.url)
        self._markers: dict[tuple[str, int], bytes | None] = {}
        self.files = self.size = 0

    def shards(self) -> dict[str, list[int]]:
        """The shards of each stage that have a marker."""
        stages: dict[str, list[int]] = {}
        for name in self._storage.listing("done"):
            shard = shard_of(name)
            stage = stage_of(name)
            if shard is not None and name == marker_name(stage, shard):
                stages.setdefault(stage, []).append(shard)
        return {stage: sorted(shards) for stage, shards in stages.items()}

    def listing(self, folder: str) -> Iterable[str]:
        """Names of the files below a folder."""
        return self._storage.listing(folder)

    def begin(self) -> None:
        """Start with another shard: forget the markers that were read."""
        self._markers.clear()
        self.files = self.size = 0

    def marker(self, stage: str, shard: int) -> Marker | None:
        """Read a marker, whether or not its files exist; None if it is missing or damaged."""
        data = self._markers[stage, shard] = self._storage.read_if_exists(marker_name(stage, shard))
        return None if data is None else Marker.from_json(data)

    def is_marked(self, stage: str, shard: int) -> bool:
        """Whether a marker that was read existed, damaged or not."""
        return self._markers[stage, shard] is not None

    def holds(self) -> bool:
        """Whether all markers are still as they were read."""
        return all(
            self._storage.read_if_exists(marker_name(*key)) == data
            for key, data in self._markers.items()
        )

    def load(self, file: StoredFile, *, again: bool = False) -> bytes:
        """Read a committed file and compare it with its size and checksum.

        Args:
            file: What the marker says of it.
            again: Whether it belongs to another shard, which counts it.

        Raises:
            Flaw: It is missing or damaged.
        """
        data = self._read(file.path)
        self.files += not again
        self.size += 0 if again else len(data)
        _compare(data, file.size, file.checksum)
        return data

    def flaws(self, files: Mapping[str, tuple[int, str | None]]) -> Iterator[tuple[str, Flaw]]:
        """Compare files with sizes and checksums (None if not known), and yield the flawed ones."""
        for names in _batches(files):
            try:
                contents = self._storage.read_many(names)
            except RunFolderError as error:
                if not _is_disk_error(error):
                    raise
                contents = {}
            for name in names:
                try:
                    data = contents[name] if name in contents else self._read(name)
                    self.files += 1
                    self.size += len(data)
                    _compare(data, *files[name])
                except Flaw as flaw:
                    yield name, flaw

    def _read(self, name: str) -> bytes:
        try:
            data = self._storage.read_if_exists(name)
        except RunFolderError as error:
            if not _is_disk_error(error):
                raise  # e.g. a missing permission: the file itself may be intact
            raise Flaw("damaged", "the disk cannot read it (input/output error)") from None
        if data is None:
            raise Flaw("missing", "the file does not exist")
        return data


def parquet(data: bytes, schema: pa.Schema) -> pq.ParquetFile:
    """Open a Parquet file of a schema. Further columns are measures or scores, or remarks on them.

    Raises:
        Flaw: It is not such a file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(data))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Flaw("damaged", f"not a Parquet file: {first_line(error)}") from None
    actual = file.schema_arrow
    wrong = {name for name in schema.names if not _has_same_type(name, actual, schema)}
    wrong |= {
        field.name
        for field in actual
        if field.name not in schema.names
        and field.type != (pa.string() if field.name.endswith(remark_column("")) else pa.float64())
    }
    if wrong or [name for name in actual.names if name in schema.names] != schema.names:
        detail = f": {', '.join(sorted(wrong))}" if wrong else " (in another order)"
        raise Flaw("damaged", f"its columns are not the expected ones{detail}")
    return file


def table(data: bytes, schema: pa.Schema) -> pa.Table:
    """Read a Parquet file of a schema; see ``parquet``."""
    import pyarrow as pa

    try:
        return parquet(data, schema).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Flaw("damaged", f"cannot be read: {first_line(error)}") from None


def _is_disk_error(error: RunFolderError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EIO


def _compare(data: bytes, size: int, checksum: str | None) -> None:
    if len(data) != size:
        raise Flaw("damaged", f"it has {len(data):,} bytes instead of {size:,}")
    if checksum is not None and digest([data]) != checksum:
        raise Flaw("damaged", f"its content ({size:,} bytes) does not match its checksum")


def _has_same_type(column: str, actual: pa.Schema, expected: pa.Schema) -> bool:
    places = actual.get_field_index(column), expected.get_field_index(column)
    return min(places) >= 0 and bool(actual.field(column).type == expected.field(column).type)


def _batches(files: Mapping[str, tuple[int, str | None]]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for name, (length, _) in files.items():
        if batch and (len(batch) == _MANY or size + length > _MANY_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += length
    if batch:
        yield batch
