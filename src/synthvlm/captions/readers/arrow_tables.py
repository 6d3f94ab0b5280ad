"""Rows of Arrow tables: Parquet files, and data sets of the Hugging Face hub."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from synthvlm.captions.readers.arrow_columns import (
    columns_of,
    is_binary,
    is_turn,
    reads_objects,
)
from synthvlm.captions.readers.conversations import IMAGE_NAMES, conversations
from synthvlm.captions.readers.file_start import without_mark
from synthvlm.captions.readers.files import SourceFile, file_system, large_digest, reason_of
from synthvlm.captions.readers.objects import records_of_object
from synthvlm.captions.readers.records import Fields, Record
from synthvlm.data import fingerprint
from synthvlm.errors import CaptionSourceError, MissingExtraError, SynthVLMError
from synthvlm.models.model_files import not_a_hub_id

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
    "rows_at_a_time",
]

#: A batch holds no more, where the rows of its row group are about equally large.
_BATCH_BYTES = 64 << 20


def read_parquet(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """The rows of a Parquet file; row groups without a needed image are not read for images."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file)
        is_talk = any(one.name == fields.text and is_turn(one.type) for one in schema)
        yield from conversations(_rows, file, fields) if is_talk else _rows(file, fields)
    except pa.ArrowException as error:
        file.seek(0)
        if not (start := file.read(200)).startswith(b"PAR"):
            without_mark(start, fields.path)
        reason = " ".join(str(error).split())
        raise CaptionSourceError(f"{fields.path}: not a usable Parquet file: {reason}") from error


def _rows(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    import pyarrow.parquet as pq

    # Buffered: else a column chunk is read as a whole, and one of images can be large.
    table = pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
    start = 0
    for group in range(table.num_row_groups):
        metadata = table.metadata.row_group(group)
        asked = replace(
            fields, only_with_image=fields.only_with_image and _may_lack_images(metadata)
        )
        columns = columns_of(table.schema_arrow, asked)
        end = start + metadata.num_rows
        are_objects = reads_objects(table.schema_arrow, columns, fields)
        is_wanted = bool(columns) and (are_objects or fields.wants(end - 1))
        if fields.image is not None and not is_wanted:
            yield from map(Record, range(start + 1, end + 1))
        else:
            size = rows_at_a_time(table, group, columns, batch_rows(fields))
            for batch in table.iter_batches(size, row_groups=[group], columns=columns):
                yield from records_of_batch(batch, start, asked)
                start += len(batch)
        start = end


def _may_lack_images(group: pq.RowGroupMetaData) -> bool:
    """Whether rows of a row group may have no image, by the statistics of its columns."""
    for number in range(group.num_columns):
        column = group.column(number)
        known = column.statistics
        if IMAGE_NAMES.search(column.path_in_schema.split(".")[0]) and known is not None:
            is_blank = not known.has_min_max or known.min in ("", b"")
            if known.has_null_count and known.null_count == 0 and not is_blank:
                return False
    return True


def batch_rows(fields: Fields) -> int:
    """Rows at a time: few where each may hold an image."""
    return 1024 if fields.image is None else 32


def rows_at_a_time(table: pq.ParquetFile, group: int, columns: list[str], most: int) -> int:
    """Fewer rows where they are large: compressed, a long text repeated takes next to nothing."""
    metadata = table.metadata.row_group(group)
    chunks = [metadata.column(number) for number in range(metadata.num_columns)]
    size = sum(
        chunk.total_uncompressed_size
        for chunk in chunks
        if {chunk.path_in_schema, chunk.path_in_schema.split(".", 1)[0]} & {*columns}
    )
    average = size // max(1, metadata.num_rows)
    return max(1, min(most, _BATCH_BYTES // max(1, int(average))))


def records_of_batch(batch: pa.RecordBatch, start: int, fields: Fields) -> Iterator[Record]:
    """The records of a batch whose first row is row ``start`` (from 0) of the file.

    The batch has the columns that are asked for, and may have others.
    """
    columns = columns_of(batch.schema, fields)
    if reads_objects(batch.schema, columns, fields):
        values = [_decoded(batch.column(name)) for name in columns]
        for number, row in enumerate(zip(*values, strict=True), start + 1):
            if UNDECODABLE in row:
                yield Record(number, problem="invalid UTF-8")
            else:
                yield from records_of_object(number, dict(zip(columns, row, strict=True)), fields)
    elif fields.image is not None:
        column = batch.column(fields.image) if fields.image in columns else None
        for index in range(len(batch)):
            number = start + index
            if column is not None and fields.wants(number):
                yield _image_record(number + 1, column, index)
            else:
                yield Record(number + 1)
    else:
        texts = _texts(batch, fields)
        ids = _decoded(batch.column(fields.id)) if fields.id in columns else [None] * len(texts)
        for number, (text, identity) in enumerate(zip(texts, ids, strict=True), start + 1):
            if text is UNDECODABLE or identity is UNDECODABLE:
                yield Record(number, problem="invalid UTF-8")
            else:
                yield Record(number, text, identity)


def _image_record(number: int, column: pa.Array, index: int) -> Record:
    try:
        return Record(number, image=column[index].as_py())
    except UnicodeDecodeError:
        return Record(number, problem="invalid UTF-8")


def _texts(batch: pa.RecordBatch, fields: Fields) -> list[object]:
    """The values of the column of captions; binary ones are text if they are UTF-8."""
    column = batch.column(fields.text)
    if is_binary(column.type):
        return [_as_text(value) for value in column.to_pylist()]
    return _decoded(column)


#: Stands for a value that is not UTF-8.
UNDECODABLE = object()


def _as_text(value: bytes | None) -> object:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return UNDECODABLE


def _decoded(column: pa.Array) -> list[object]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return [_one_decoded(value) for value in column]


def _one_decoded(value: pa.Scalar) -> object:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return UNDECODABLE


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
    problem = not_a_hub_id(path, "dataset")
    if problem is not None:
        raise CaptionSourceError(problem)


def hub_digest(path: str, split: str, subset: str | None, revision: str | None) -> str:
    """A hash of which data these are: the commit on the hub, or the files of the folder.

    Files are known by their names and content.

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
                known.append((os.path.relpath(file, folder), large_digest(file)))
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
