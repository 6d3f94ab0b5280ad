"""A run folder as verification reads it: markers and files that a running run may replace."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from synthvlm.checks.findings import Kind
from synthvlm.data import digest
from synthvlm.errors import RunFolderError, first_line
from synthvlm.run_folder.marker import Marker, StoredFile, marker_name, shard_of, stage_of
from synthvlm.run_folder.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from synthvlm.run_folder.folder import RunFolder

__all__ = ["Flaw", "Snapshot", "parquet", "table"]

#: Files that are read side by side, and about how many bytes of them are in memory.
_MANY, _MANY_BYTES = 128, 64 * 2**20


class Flaw(Exception):
    """A file is not what it should be; the message says how."""

    def __init__(self, kind: Kind, problem: str) -> None:
        """Say what it means, and what is wrong."""
        super().__init__(problem)
        self.kind = kind


class Snapshot:
    """Reads of one look at a shard; whether its markers are still the same afterwards.

    Attributes:
        files: How many files were read.
        size: Their bytes.
    """

    def __init__(self, run: RunFolder) -> None:
        """Nothing is read yet."""
        self._storage = Storage(run.url)
        self._seen: dict[tuple[str, int], bytes | None] = {}
        self.files = self.size = 0

    def shards(self) -> dict[str, list[int]]:
        """The shards of each stage that have a marker."""
        found: dict[str, list[int]] = {}
        for name in self._storage.listing("done"):
            shard = shard_of(name)
            stage = stage_of(name)
            if shard is not None and name == marker_name(stage, shard):
                found.setdefault(stage, []).append(shard)
        return {stage: sorted(shards) for stage, shards in found.items()}

    def listing(self, folder: str) -> Iterable[str]:
        """Names of the files below a folder."""
        return self._storage.listing(folder)

    def begin(self) -> None:
        """A new look: forget what was seen."""
        self._seen.clear()
        self.files = self.size = 0

    def marker(self, stage: str, shard: int) -> Marker | None:
        """A marker, whether or not its files are there; None: there is none, or it is damaged."""
        data = self._seen[stage, shard] = self._storage.read_if_exists(marker_name(stage, shard))
        return None if data is None else Marker.from_json(data)

    def is_marked(self, stage: str, shard: int) -> bool:
        """Whether the marker that was read last is there, damaged or not."""
        return self._seen[stage, shard] is not None

    def holds(self) -> bool:
        """Whether all markers of this look are still as they were read."""
        return all(
            self._storage.read_if_exists(marker_name(*key)) == data
            for key, data in self._seen.items()
        )

    def load(self, file: StoredFile, *, again: bool = False) -> bytes:
        """The bytes of a committed file; ``again``: it is counted where it belongs.

        Raises:
            Flaw: It is not there, or not what was committed.
        """
        data = self._read(file.path)
        self.files += not again
        self.size += 0 if again else len(data)
        _compare(data, file.size, file.checksum)
        return data

    def flaws(self, files: Mapping[str, tuple[int, str | None]]) -> Iterator[tuple[str, Flaw]]:
        """Those of some files, by size and checksum (None: not known), that are not so."""
        for names in _batches(files):
            try:
                found = self._storage.read_many(names)
            except RunFolderError as error:
                if not _is_disk_error(error):
                    raise
                found = {}
            for name in names:
                try:
                    data = found[name] if name in found else self._read(name)
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
                raise  # it says nothing of the file, and must not have it discarded
            raise Flaw("damaged", "its disk cannot read it (input/output error)") from None
        if data is None:
            raise Flaw("missing", "it is not there")
        return data


def parquet(data: bytes, schema: pa.Schema) -> pq.ParquetFile:
    """A file as Parquet of a schema; measures may have further columns, of numbers.

    Raises:
        Flaw: It is no such file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(data))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Flaw("damaged", f"it is no Parquet file: {first_line(error)}") from None
    found = file.schema_arrow
    wrong = {name for name in schema.names if not _same(name, found, schema)}
    wrong |= {
        field.name
        for field in found
        if field.name not in schema.names and field.type != pa.float64()
    }
    if wrong or [name for name in found.names if name in schema.names] != schema.names:
        named = f": {', '.join(sorted(wrong))}" if wrong else ", in another order"
        raise Flaw("damaged", f"its columns are not those of its kind{named}")
    return file


def table(data: bytes, schema: pa.Schema) -> pa.Table:
    """As ``parquet``, read whole."""
    import pyarrow as pa

    try:
        return parquet(data, schema).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Flaw("damaged", f"it cannot be read: {first_line(error)}") from None


def _is_disk_error(error: RunFolderError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EIO


def _compare(data: bytes, size: int, checksum: str | None) -> None:
    if len(data) != size:
        raise Flaw("damaged", f"it has {len(data):,} bytes, written were {size:,}")
    if checksum is not None and digest([data]) != checksum:
        raise Flaw("damaged", f"its {size:,} bytes are not those that were written (checksum)")


def _same(name: str, found: Any, wanted: Any) -> bool:
    places = found.get_field_index(name), wanted.get_field_index(name)
    return min(places) >= 0 and bool(found.field(name).type == wanted.field(name).type)


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
