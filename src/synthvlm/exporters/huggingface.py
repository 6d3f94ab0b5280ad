"""Parquet files with image bytes, as ``datasets.load_dataset`` opens them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from synthvlm.data import score_column
from synthvlm.exporters.base import ExportedPair, Exporter, Write
from synthvlm.exporters.parquet_files import write_files

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["HuggingFaceExporter", "data_set_schema", "record"]


class HuggingFaceExporter(Exporter):
    """Writes ``data/<split>-<part>-<piece>.parquet``: a row for each pair, with all its scores."""

    name: ClassVar[str] = "huggingface"
    tables: ClassVar[str] = "data/{split}-*.parquet"
    usage = '`datasets.load_dataset("path/to/this/folder", split="train")`.'

    def write_part(self, part: int, pairs: Iterable[ExportedPair], write: Write) -> bytes:
        """Write a part as one file, or several where its images are large."""
        write_files(self.tables, part, pairs, _table, write)
        return b""

    def finish(self, parts: Iterable[bytes], write: Write) -> None:
        """Nothing is left to do: the data-set card names the files."""


def _table(pairs: list[ExportedPair]) -> pa.Table:
    import pyarrow as pa

    schema = data_set_schema(list(pairs[0].scores))
    return pa.Table.from_pylist([record(pair) for pair in pairs], schema)


def record(pair: ExportedPair) -> dict[str, Any]:
    """A pair as a row of ``data_set_schema``."""
    names = ("id", "caption", "source", "rank", "score", "seed", "index")
    return {
        **{name: getattr(pair, name) for name in names},
        **{score_column(name): value for name, value in pair.scores.items()},
        "image": {"bytes": pair.image, "path": pair.file_name},
    }


def data_set_schema(scorers: Sequence[str]) -> pa.Schema:
    """The columns of a data set whose pairs have the scores of these scorers."""
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
