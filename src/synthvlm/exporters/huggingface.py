"""Parquet files with image bytes, as ``datasets.load_dataset`` opens them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from synthvlm.exporters.base import ExportedPair, Write

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["HuggingFaceExporter"]

#: A file is closed when its images reach this many bytes; the hub's viewer likes it below 500 MB.
_FILE_BYTES = 400 * 2**20

#: The hub's own description of the columns, which makes ``image`` a picture and not a struct.
_FEATURES = (
    '{"info": {"features": {'
    '"id": {"dtype": "string", "_type": "Value"}, '
    '"image": {"_type": "Image"}, '
    '"caption": {"dtype": "string", "_type": "Value"}, '
    '"source": {"dtype": "string", "_type": "Value"}, '
    '"rank": {"dtype": "int64", "_type": "Value"}, '
    '"clip_score": {"dtype": "float64", "_type": "Value"}, '
    '"ssim_score": {"dtype": "float64", "_type": "Value"}, '
    '"score": {"dtype": "float64", "_type": "Value"}, '
    '"seed": {"dtype": "int64", "_type": "Value"}, '
    '"index": {"dtype": "int32", "_type": "Value"}}}}'
)


class HuggingFaceExporter:
    """Writes ``data/train-<part>-<piece>.parquet``."""

    def write_part(self, part: int, pairs: Iterable[ExportedPair], write: Write) -> bytes:
        """Write a part as one file, or several where its images are large."""
        piece, size, batch = 0, 0, []
        for pair in pairs:
            batch.append(pair)
            size += len(pair.image)
            if size >= _FILE_BYTES:
                self._write(part, piece, batch, write)
                piece, size, batch = piece + 1, 0, []
        if batch:
            self._write(part, piece, batch, write)
        return b""

    def finish(self, parts: Iterable[bytes], write: Write) -> None:
        """Nothing is left to do: the data-set card names the files."""

    def _write(self, part: int, piece: int, pairs: list[ExportedPair], write: Write) -> None:
        import pyarrow as pa

        from synthvlm.store import table_bytes

        schema = _schema()
        columns: dict[str, list[object]] = {
            name: [getattr(pair, name) for pair in pairs] for name in schema.names
        }
        columns["image"] = [{"bytes": pair.image, "path": pair.file_name} for pair in pairs]
        table = pa.Table.from_pydict(columns, schema)
        write(f"data/train-{part:05d}-{piece:03d}.parquet", table_bytes(table))


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("id", pa.string()),
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("caption", pa.string()),
            ("source", pa.string()),
            ("rank", pa.int64()),
            ("clip_score", pa.float64()),
            ("ssim_score", pa.float64()),
            ("score", pa.float64()),
            ("seed", pa.int64()),
            ("index", pa.int32()),
        ],
        metadata={"huggingface": _FEATURES},
    )
