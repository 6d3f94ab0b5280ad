"""Parquet files, and the Arrow record batches that other readers give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from synthvlm.captions.readers.records import Fields, Record
from synthvlm.errors import CaptionSourceError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["batch_rows", "read_parquet", "records_of_batch"]

#: A batch holds no more, where the rows of its row group are about equally large.
_BATCH_BYTES = 64 << 20


def read_parquet(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """The rows of a Parquet file; row groups without a wanted image are not read for images."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Buffered: else a column chunk is read as a whole, and one of images can be large.
        table = pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
        names = table.schema_arrow.names
        fields.check(names)
        columns = [name for name in fields.asked if name in names]
        start = 0
        for group in range(table.num_row_groups):
            end = start + table.metadata.row_group(group).num_rows
            if fields.image is not None and (not columns or not fields.wants(end - 1)):
                yield from map(Record, range(start + 1, end + 1))
            else:
                size = _rows_at_a_time(table, group, columns, fields)
                number = start
                for batch in table.iter_batches(size, row_groups=[group], columns=columns):
                    yield from records_of_batch(batch, number, fields)
                    number += len(batch)
            start = end
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())
        raise CaptionSourceError(f"{fields.path}: not a usable Parquet file: {reason}") from error


def batch_rows(fields: Fields) -> int:
    """Rows at a time: few where each may hold an image."""
    return 1024 if fields.image is None else 32


def _rows_at_a_time(table: pq.ParquetFile, group: int, columns: list[str], fields: Fields) -> int:
    """Fewer rows where they are large: compressed, a long text repeated takes next to nothing."""
    metadata = table.metadata.row_group(group)
    chunks = [metadata.column(number) for number in range(metadata.num_columns)]
    size = sum(
        chunk.total_uncompressed_size
        for chunk in chunks
        if {chunk.path_in_schema, chunk.path_in_schema.split(".", 1)[0]} & {*columns}
    )
    average = size // max(1, metadata.num_rows)
    return max(1, min(batch_rows(fields), _BATCH_BYTES // max(1, int(average))))


def records_of_batch(batch: pa.RecordBatch, start: int, fields: Fields) -> Iterator[Record]:
    """The records of a batch whose first row is row ``start`` (from 0) of the file."""
    names = batch.schema.names
    if fields.image is not None:
        column = batch.column(names.index(fields.image)) if fields.image in names else None
        for index in range(len(batch)):
            number = start + index
            if column is not None and fields.wants(number):
                yield _image_record(number + 1, column, index)
            else:
                yield Record(number + 1)
        return
    texts = _values(batch, fields.text, fields)
    identities = _values(batch, fields.id, fields) if fields.id in names else [None] * len(texts)
    for number, (text, identity) in enumerate(zip(texts, identities, strict=True), start + 1):
        if isinstance(text, bytes) or isinstance(identity, bytes):
            yield Record(number, problem="invalid UTF-8")
        else:
            yield Record(number, text, identity)


def _image_record(number: int, column: pa.Array, index: int) -> Record:
    try:
        return Record(number, image=column[index].as_py())
    except UnicodeDecodeError:
        return Record(number, problem="invalid UTF-8")


def _values(batch: pa.RecordBatch, name: str, fields: Fields) -> list[object]:
    """Values of a column of text (or, for ids, of integers); bytes where they are not UTF-8."""
    import pyarrow as pa

    column = batch.column(batch.schema.get_field_index(name))
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if is_text or pa.types.is_string_view(kind):
        return _decoded(column)
    if (name == fields.id and pa.types.is_integer(kind)) or pa.types.is_null(kind):
        return list(column.to_pylist())
    wanted = "text or integers" if name == fields.id else "text"
    raise CaptionSourceError(f"{fields.path}: column {name!r} is {kind}, expected {wanted}")


def _decoded(column: pa.Array) -> list[object]:
    import pyarrow as pa

    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        values: list[object] = []
        for value in column.cast(pa.large_binary()).to_pylist():
            try:
                values.append(None if value is None else value.decode("utf-8"))
            except UnicodeDecodeError:
                values.append(value)
        return values
