"""One reader per format of caption files: an open binary file in, records out, in order."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import orjson

from synthvlm.errors import CaptionSourceError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["READERS", "Fields", "Record"]

#: An unclosed quote makes a CSV reader take the rest of the file for one field; not beyond this.
_MAX_FIELD_CHARS = 1 << 24

_PARQUET_BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Fields:
    """The file's path, for messages, and the names of the fields of the caption and its id."""

    path: str
    text: str
    id: str

    @property
    def id_required(self) -> bool:
        """The customary ``id`` may be missing; what a user has named must be there."""
        return self.id != "id"

    def check(self, columns: list[str]) -> None:
        """Raise CaptionSourceError unless the columns hold the fields."""
        for field in (self.text, self.id) if self.id_required else (self.text,):
            if field not in columns:
                near = difflib.get_close_matches(field, columns, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                names = ", ".join(map(repr, columns[:20])) + (", ..." if len(columns) > 20 else "")
                raise CaptionSourceError(
                    f"{self.path}: there is no column {field!r}, only {names}{hint}"
                )


class Record(NamedTuple):
    """A row of the file: where it stands, what it holds, or the problem with it."""

    where: str
    text: object = None
    id: object = None
    problem: str | None = None


def _read_txt(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    for where, line in _lines(file, fields):
        try:
            yield Record(where, line.decode("utf-8"))
        except UnicodeDecodeError:
            yield Record(where, problem="invalid UTF-8")


def _read_jsonl(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    for where, line in _lines(file, fields):
        if not line.strip():
            yield Record(where, "")
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield Record(where, problem=f"invalid JSON: {error.msg} (column {error.colno})")
        else:
            yield _record_of_object(where, value, fields)


def _read_json(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    try:
        values = orjson.loads(file.read().removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise CaptionSourceError(
            f"{fields.path}, line {error.lineno}, column {error.colno}: invalid JSON: {error.msg}"
        ) from error
    if not isinstance(values, list):
        raise CaptionSourceError(f"{fields.path}: expected a JSON list of objects")
    for number, value in enumerate(values, 1):
        yield _record_of_object(f"item {number}", value, fields)


def _record_of_object(where: str, value: object, fields: Fields) -> Record:
    if not isinstance(value, dict):
        return Record(where, problem="not a JSON object")
    text, identity = value.get(fields.text), value.get(fields.id)
    for field in (fields.text, fields.id) if fields.id_required else (fields.text,):
        if field not in value:
            keys = ", ".join(map(repr, list(value)[:20])) or "none"
            return Record(where, text, identity, f"there is no field {field!r} (found: {keys})")
    return Record(where, text, identity)


def _read_csv(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    # Strict: a stray quote is a bad row, not a guess.
    return _read_table(file, fields, lambda lines: csv.reader(lines, strict=True))


def _read_tsv(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    return _read_table(
        file, fields, lambda lines: csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    )


def _read_table(
    file: BinaryIO, fields: Fields, make_reader: Callable[[Iterable[str]], Any]
) -> Iterator[Record]:
    # The module's own limit (128 Ki) would break a long caption into several rows.
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD_CHARS))
    # An undecodable byte must spoil its own row only: it is carried along as a lone surrogate.
    lines = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _table_records(make_reader(lines), fields)
    finally:
        lines.detach()  # whoever opened the file closes it


def _table_records(reader: Any, fields: Fields) -> Iterator[Record]:
    """The records of a ``csv.reader``, the first row of which is the header."""
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise CaptionSourceError(f"{fields.path}, line 1: invalid header: {error}") from error
    if header is None:
        return
    if not _is_utf8("".join(header)):
        raise CaptionSourceError(f"{fields.path}, line 1: invalid UTF-8; save the file as UTF-8")
    fields.check(header)
    columns = header.index(fields.text), header.index(fields.id) if fields.id in header else None
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield Record(_line_range(first, reader.line_num), problem=f"invalid CSV: {error}")
            continue
        if row is None:
            return
        yield _record_of_row(_line_range(first, reader.line_num), row, len(header), *columns)


def _record_of_row(
    where: str, row: list[str], width: int, text_column: int, id_column: int | None
) -> Record:
    if not row:
        return Record(where, "")
    if len(row) != width:
        return Record(where, problem=f"{len(row)} columns, but the header has {width}")
    text, identity = row[text_column], "" if id_column is None else row[id_column]
    if not _is_utf8(text + identity):
        return Record(where, problem="invalid UTF-8")
    if "\0" in text + identity:
        return Record(where, problem="NUL byte")
    return Record(where, text, identity)


def _read_parquet(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file, pre_buffer=False)
        fields.check(table.schema_arrow.names)
        columns = [name for name in (fields.text, fields.id) if name in table.schema_arrow.names]
        number = 0
        for batch in table.iter_batches(_PARQUET_BATCH_ROWS, columns=columns):
            texts = _column_values(batch, fields.text, fields)
            known = fields.id in batch.schema.names
            identities = _column_values(batch, fields.id, fields) if known else [None] * len(texts)
            for text, identity in zip(texts, identities, strict=True):
                number += 1
                if isinstance(text, bytes) or isinstance(identity, bytes):
                    yield Record(f"row {number}", problem="invalid UTF-8")
                else:
                    yield Record(f"row {number}", text, identity)
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())
        raise CaptionSourceError(f"{fields.path}: not a usable Parquet file: {reason}") from error


def _column_values(batch: pa.RecordBatch, name: str, fields: Fields) -> list[object]:
    """Values of a column of text (or, for ids, of integers); bytes where they are not UTF-8."""
    import pyarrow as pa

    column = batch.column(batch.schema.get_field_index(name))
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if is_text or pa.types.is_string_view(kind):
        return [_decoded(value) for value in column.cast(pa.large_binary()).to_pylist()]
    if (name == fields.id and pa.types.is_integer(kind)) or pa.types.is_null(kind):
        return list(column.to_pylist())
    wanted = "text or integers" if name == fields.id else "text"
    raise CaptionSourceError(f"{fields.path}: column {name!r} is {kind}, expected {wanted}")


def _decoded(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def _lines(file: BinaryIO, fields: Fields) -> Iterator[tuple[str, bytes]]:
    """The lines of a file without their ends, and where each one is."""
    for number, line in enumerate(file, 1):
        if number == 1:
            if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise CaptionSourceError(f"{fields.path} is UTF-16; save the file as UTF-8")
            line = line.removeprefix(b"\xef\xbb\xbf")
            if not line:
                return
        yield f"line {number}", line.removesuffix(b"\n").removesuffix(b"\r")


def _line_range(first: int, last: int) -> str:
    return f"line {first}" if last <= first else f"lines {first}-{last}"


def _is_utf8(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


#: The reader of each format.
READERS: dict[str, Callable[[BinaryIO, Fields], Iterator[Record]]] = {
    "txt": _read_txt,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "json": _read_json,
    "parquet": _read_parquet,
}
