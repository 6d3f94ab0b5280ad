"""Parquet files of pairs with their images, written a row group at a time."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any

from synthvlm.exporters.base import ExportedPair, Write
from synthvlm.exporters.splits import peeked

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FILE_BYTES", "write_files"]

#: A file is closed when its images reach this many bytes; the hub's viewer likes it below 500 MB.
FILE_BYTES = 400 * 2**20
#: As much of its images is in memory at a time, and is what readers read at a time.
_ROW_GROUP_BYTES = 64 * 2**20


def write_files(
    pattern: str,
    part: int,
    pairs: Iterable[ExportedPair],
    table_of: Callable[[list[ExportedPair]], pa.Table],
    write: Write,
) -> None:
    """Write a part as one file, or several where its images are large.

    Args:
        pattern: Of their names, such as ``data/{split}-*.parquet``.
        part: Number of the part.
        pairs: All of one split.
        table_of: Some pairs as rows, all with one schema.
        write: Writes a file.
    """
    split, left = peeked(pairs)
    for piece, first in enumerate(left):
        name = pattern.format(split=split).replace("*", f"{part:05d}-{piece:03d}")
        write(name, _file(chain([first], left), table_of))


class _Sink(io.RawIOBase):
    """Collects bytes until they are taken."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        self._chunks.append(bytes(data))
        self._written += len(self._chunks[-1])
        return len(self._chunks[-1])

    def taken(self) -> list[bytes]:
        chunks, self._chunks = self._chunks, []
        return chunks


def _file(
    pairs: Iterable[ExportedPair], table_of: Callable[[list[ExportedPair]], pa.Table]
) -> Iterator[bytes]:
    """A Parquet file of pairs up to ``FILE_BYTES``; one row group is in memory at a time.

    Its metadata has an identity, a hash of its captions and images.
    """
    import pyarrow.parquet as pq

    sink = _Sink()
    groups = _row_groups(pairs)
    group = next(groups)
    table, split = table_of(group), group[0].split
    content, rows = blake2b(digest_size=16), 0
    with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        while True:
            writer.write_table(table, row_group_size=table.num_rows)
            rows += table.num_rows
            for pair in group:
                for value in (pair.id.encode(), pair.caption.encode(), pair.image):
                    content.update(b"%d " % len(value))
                    content.update(value)
            yield from sink.taken()
            del group, table  # before the next ones are read
            if not (group := next(groups, [])):
                break
            table = table_of(group)
        facts = {"identity": content.hexdigest(), "split": split, "pairs": rows}
        writer.add_key_value_metadata({"synthvlm": json.dumps(facts)})
    yield from sink.taken()


def _row_groups(pairs: Iterable[ExportedPair]) -> Iterator[list[ExportedPair]]:
    group: list[ExportedPair] = []
    size = total = 0
    for pair in pairs:
        group.append(pair)
        size += len(pair.image)
        if size >= _ROW_GROUP_BYTES or total + size >= FILE_BYTES:
            yield group
            total += size
            if total >= FILE_BYTES:
                return
            group, size = [], 0
    if group:
        yield group
