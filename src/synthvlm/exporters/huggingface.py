"""Parquet files with image bytes, as ``datasets.load_dataset`` opens them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from synthvlm.data import score_column
from synthvlm.exporters.base import ExportedPair, Exporter, Write

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TABLES", "HuggingFaceExporter", "is_table"]

#: What its files are called, as a pattern.
TABLES = "data/train-*.parquet"

#: A file is closed when its images reach this many bytes; the hub's viewer likes it below 500 MB.
_FILE_BYTES = 400 * 2**20
#: As much of its images is in memory at a time, and is what readers read at a time.
_ROW_GROUP_BYTES = 64 * 2**20


class HuggingFaceExporter(Exporter):
    """Writes ``data/train-<part>-<piece>.parquet``."""

    name: ClassVar[str] = "huggingface"
    usage = '`datasets.load_dataset("path/to/this/folder", split="train")`.'

    def write_part(self, part: int, pairs: Iterable[ExportedPair], write: Write) -> bytes:
        """Write a part as one file, or several where its images are large."""
        left = iter(pairs)
        for piece, first in enumerate(left):
            write(f"data/train-{part:05d}-{piece:03d}.parquet", _file(chain([first], left)))
        return b""

    def finish(self, parts: Iterable[bytes], write: Write) -> None:
        """Nothing is left to do: the data-set card names the files."""


def is_table(name: str) -> bool:
    """Whether a file of the data set is one that ``HuggingFaceExporter`` writes."""
    return fnmatchcase(name, TABLES)


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


def _file(pairs: Iterable[ExportedPair]) -> Iterator[bytes]:
    """A Parquet file of pairs up to ``_FILE_BYTES``; one row group is in memory at a time."""
    import pyarrow.parquet as pq

    sink = _Sink()
    groups = _row_groups(pairs)
    first = next(groups)
    schema = _schema(list(first[0].scores))
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for group in chain([first], groups):
            writer.write_table(_table(group), row_group_size=len(group))
            yield from sink.taken()
    yield from sink.taken()


def _row_groups(pairs: Iterable[ExportedPair]) -> Iterator[list[ExportedPair]]:
    group: list[ExportedPair] = []
    size = total = 0
    for pair in pairs:
        group.append(pair)
        size += len(pair.image)
        if size >= _ROW_GROUP_BYTES or total + size >= _FILE_BYTES:
            yield group
            total += size
            if total >= _FILE_BYTES:
                return
            group, size = [], 0
    if group:
        yield group


def _table(pairs: list[ExportedPair]) -> pa.Table:
    import pyarrow as pa

    schema = _schema(list(pairs[0].scores))
    columns: dict[str, list[object]] = {
        name: [getattr(pair, name) for pair in pairs]
        for name in ("id", "caption", "source", "rank", "score", "seed", "index")
    }
    for name in pairs[0].scores:
        columns[score_column(name)] = [pair.scores[name] for pair in pairs]
    columns["image"] = [{"bytes": pair.image, "path": pair.file_name} for pair in pairs]
    return pa.Table.from_pydict(columns, schema)


def _schema(scorers: Sequence[str]) -> pa.Schema:
    import pyarrow as pa

    schema = pa.schema(
        [
            ("id", pa.string()),
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("caption", pa.string()),
            ("source", pa.string()),
            ("rank", pa.int64()),
            *((score_column(name), pa.float64()) for name in scorers),
            ("score", pa.float64()),
            ("seed", pa.int64()),
            ("index", pa.int32()),
        ]
    )
    # The hub's own description of the columns, which makes `image` a picture and not a struct.
    kinds = {pa.float64(): "float64", pa.int64(): "int64", pa.int32(): "int32"}
    features = {
        field.name: {"_type": "Image"}
        if field.name == "image"
        else {"dtype": kinds.get(field.type, "string"), "_type": "Value"}
        for field in schema
    }
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
