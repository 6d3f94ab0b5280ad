"""Tables as Parquet files in a storage, read as a whole or one row group at a time."""

from __future__ import annotations

import io
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING, Any, TypeVar

from synthvlm.errors import RunFolderError, first_line

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from synthvlm.run_folder.storage import Storage

__all__ = [
    "columns",
    "damage_explained",
    "iter_rows",
    "read_table",
    "row_group",
    "row_group_sizes",
    "row_groups",
    "table_bytes",
]

#: Size of a row group, in bytes of table data: what a reader has to hold in memory.
ROW_GROUP_BYTES = 64 * 2**20

_T = TypeVar("_T")


def table_bytes(table: pa.Table) -> bytes:
    """Encode a table as Parquet with row groups of at most about 64 MB of data."""
    import pyarrow.parquet as pq

    per_row = max(1, table.nbytes // max(1, table.num_rows))
    sink = io.BytesIO()
    pq.write_table(
        table, sink, row_group_size=max(1, ROW_GROUP_BYTES // per_row), compression="zstd"
    )
    return sink.getvalue()


def read_table(storage: Storage, name: str, columns: Sequence[str] | None) -> pa.Table:
    """See ``RunFolder.read_table``."""
    return _parquet(storage, name, lambda parquet: parquet.read(columns=columns))


def columns(storage: Storage, name: str) -> list[str]:
    """See ``RunFolder.columns``."""
    return _parquet(storage, name, lambda parquet: list(parquet.schema_arrow.names))


def row_groups(storage: Storage, name: str, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    """See ``RunFolder.row_groups``."""
    for group in range(_parquet(storage, name, lambda parquet: parquet.num_row_groups)):
        yield row_group(storage, name, group, columns)


def row_group_sizes(storage: Storage, name: str) -> list[int]:
    """See ``RunFolder.row_group_sizes``."""
    return _parquet(storage, name, _sizes)


def row_group(storage: Storage, name: str, group: int, columns: Sequence[str] | None) -> pa.Table:
    """See ``RunFolder.row_group``."""
    return _parquet(storage, name, partial(_row_group, group, columns))


def iter_rows(
    storage: Storage, name: str, column: str, values: Container[Any]
) -> Iterator[dict[str, Any]]:
    """See ``RunFolder.iter_rows``."""
    for group in range(_parquet(storage, name, lambda parquet: parquet.num_row_groups)):
        yield from _parquet(storage, name, partial(_rows, group, column, values))


@contextmanager
def damage_explained(storage: Storage, name: str) -> Iterator[None]:
    """See ``RunFolder.damage_explained``."""
    import pyarrow as pa

    with storage.explained("read", name):
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and (error.errno or type(error) is not OSError):
                raise  # from the file system: decoders raise plain OSErrors without a number
            raise RunFolderError(
                f"{storage.path(name)} is damaged ({first_line(error)}): delete it and run again"
            ) from None


def _parquet(storage: Storage, name: str, action: Callable[[pq.ParquetFile], _T]) -> _T:
    import pyarrow.parquet as pq

    def use(file: IO[bytes]) -> _T:
        with damage_explained(storage, name):
            return action(pq.ParquetFile(file))

    return storage.with_file(name, use)


def _sizes(parquet: pq.ParquetFile) -> list[int]:
    metadata = parquet.metadata
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def _row_group(group: int, columns: Sequence[str] | None, parquet: pq.ParquetFile) -> pa.Table:
    return parquet.read_row_group(group, columns)


def _rows(
    group: int, column: str, values: Container[Any], parquet: pq.ParquetFile
) -> list[dict[str, Any]]:
    keys = parquet.read_row_group(group, [column])[column].to_pylist()
    rows = [number for number, key in enumerate(keys) if key in values]
    return list(parquet.read_row_group(group).take(rows).to_pylist()) if rows else []
