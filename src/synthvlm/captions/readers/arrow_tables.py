"""Rows of Arrow tables: Parquet files, and data sets of the Hugging Face hub."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from synthvlm.captions.readers.files import (
    SourceFile,
    file_system,
    reason_of,
    sampled_digest,
)
from synthvlm.captions.readers.records import Fields, Record
from synthvlm.data import fingerprint
from synthvlm.errors import CaptionSourceError, MissingExtraError, SynthVLMError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = [
    "batch_rows",
    "check_hub_path",
    "hub_digest",
    "parquet_files",
    "read_hub",
    "read_parquet",
    "records_of_batch",
]

#: A batch holds no more, where the rows of its row group are about equally large.
_BATCH_BYTES = 64 << 20


def read_parquet(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """The rows of a Parquet file; row groups without a needed image are not read for images."""
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
    allowed = "text or integers" if name == fields.id else "text"
    raise CaptionSourceError(f"{fields.path}: column {name!r} is {kind}, expected {allowed}")


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


_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def read_hub(
    fields: Fields, split: str, subset: str | None, revision: str | None
) -> Iterator[Record]:
    """The rows of a split that is not stored as Parquet; images come as stored, never decoded."""
    number = 0
    try:
        data = _streamed(fields, split, subset, revision)
        # Arrow batches, since rows as dictionaries cost far more, and would decode images.
        for table in data.with_format("arrow").iter(batch_rows(fields)):
            if not number:
                fields.check(table.column_names)
            for batch in table.combine_chunks().to_batches():
                yield from records_of_batch(batch, number, fields)
                number += len(batch)
    except SynthVLMError:
        raise
    except Exception as error:  # datasets lets through what its many readers raise
        place = f"after row {number}" if number else "at its start"
        raise CaptionSourceError(
            f"{fields.path}, split {split}, {place}: cannot be read: "
            f"{reason_of(error) or type(error).__name__}"
        ) from error


def parquet_files(
    path: str, split: str, subset: str | None, revision: str | None
) -> list[SourceFile] | None:
    """The files of a split that is stored as Parquet, as most are; None of any other.

    Our own reader takes them: ``datasets`` reads them by a scan of Arrow's that goes on when one
    stops early, and then hangs or aborts the process at its end (apache/arrow 45214).

    Raises:
        CaptionSourceError: The data set cannot be had, or has no such split.
        MissingExtraError: ``datasets`` is not installed.
    """
    load_dataset_builder = _datasets(path).load_dataset_builder
    try:
        builder = load_dataset_builder(path, subset, revision=revision)
    except Exception as error:  # as in read_hub
        raise CaptionSourceError(
            f"{path}: cannot be read: {reason_of(error) or type(error).__name__}"
        ) from error
    if builder.info.builder_name != "parquet":
        return None
    files = builder.config.data_files or {}
    if split not in files:
        raise CaptionSourceError(
            f"{path}: there is no split {split!r} (found: {', '.join(map(str, files))})"
        )
    return [SourceFile(file, *file_system(file)) for file in files[split]]


def check_hub_path(path: str) -> None:
    """Raise CaptionSourceError unless it is a local folder or may be the id of a data set."""
    if os.path.isfile(path):
        raise CaptionSourceError(
            f"{path} is a file, not a data set; set format to that of the file"
        )
    if not os.path.isdir(path) and not _HUB_ID.fullmatch(path):
        raise CaptionSourceError(f"{path}: neither a folder nor the id of a data set on the hub")


def hub_digest(path: str, split: str, subset: str | None, revision: str | None) -> str:
    """A hash of which data these are: the commit on the hub, or the files of the folder.

    Files are known by their names and sizes and the first and last MiB of each.

    Raises:
        CaptionSourceError: The hub does not know the data set or cannot be reached (a revision
            that is a full commit hash needs no look-up), or a file cannot be read.
        MissingExtraError: ``datasets`` is not installed.
    """
    check_hub_path(path)
    try:
        content = _folder_digest(path) if os.path.isdir(path) else _commit(path, revision)
    except OSError as error:
        raise CaptionSourceError(f"{path}: cannot be read: {reason_of(error)}") from error
    return fingerprint("huggingface", content, split, subset)


def _streamed(fields: Fields, split: str, subset: str | None, revision: str | None) -> Any:
    return _datasets(fields.path).load_dataset(
        fields.path, subset, split=split, revision=revision, streaming=True
    )


def _datasets(path: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: Hugging Face data sets need an extra: pip install 'synthvlm[huggingface]'"
        ) from error
    return datasets


def _folder_digest(folder: str) -> str:
    known = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = os.path.join(parent, name)
            if not name.startswith("."):
                known.append((os.path.relpath(file, folder), sampled_digest(file)))
    return fingerprint(known)


def _commit(path: str, revision: str | None) -> str:
    if revision is not None and _COMMIT.fullmatch(revision):
        return fingerprint(path, revision)
    from huggingface_hub import HfApi

    try:
        info = HfApi().dataset_info(path, revision=revision)
    except Exception as error:  # the client's own errors and those of its transport
        raise CaptionSourceError(
            f"{path}: cannot ask the hub for its revision: "
            f"{reason_of(error) or type(error).__name__}"
        ) from error
    return fingerprint(path, info.sha)
