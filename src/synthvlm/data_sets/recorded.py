"""What a run recorded of the pairs of a data set: columns of Parquet, fields of a sample's JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from synthvlm.captions.readers.files import READ_ERRORS, SourceFile, find_files
from synthvlm.captions.readers.parts import unreadable
from synthvlm.captions.readers.records import DEFAULT_TEXT, Fields
from synthvlm.captions.readers.webdataset import read_objects
from synthvlm.data import scorer_of
from synthvlm.data_sets.pairs import UNKNOWN, PairFacts

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["recorded_facts"]

_TEXTS, _NUMBERS = ("id", "source"), ("rank", "seed", "index")
_ROWS = 1024


def recorded_facts(path: str, format: str, text_field: str) -> Iterator[PairFacts]:
    """What a run recorded of each row that ``read_captions`` gives, as far as the files hold it.

    Args:
        path: Files, as in ``read_captions``.
        format: ``parquet`` or ``webdataset``.
        text_field: Column of the captions.

    Raises:
        CaptionSourceError: A file cannot be read.
    """
    for file in find_files(path):
        try:
            yield from _of_table(file, text_field) if format == "parquet" else _of_shard(file)
        except READ_ERRORS as error:
            raise unreadable(file.path, error) from error


def _of_shard(file: SourceFile) -> Iterator[PairFacts]:
    with file.open() as content:
        for value in read_objects(content, Fields(file.shown, DEFAULT_TEXT, "__key__")):
            yield _facts(value)


def _of_table(file: SourceFile, text_field: str) -> Iterator[PairFacts]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with file.open() as content:
        table = pq.ParquetFile(content)
        columns = [field.name for field in table.schema_arrow if _is_known(field)]
        position = table.schema_arrow.get_field_index(text_field)
        kind = None if position < 0 else table.schema_arrow.field(position).type
        # Of a list of captions each is a row.
        if not columns or kind not in (pa.string(), pa.large_string()):
            yield from (UNKNOWN for _ in range(table.metadata.num_rows))
            return
        for batch in table.iter_batches(_ROWS, columns=columns):
            try:
                yield from map(_facts, batch.to_pylist())
            except UnicodeDecodeError:
                yield from (UNKNOWN for _ in range(len(batch)))


def _is_known(field: pa.Field) -> bool:
    from pyarrow import types

    if field.name in _TEXTS:
        return bool(types.is_string(field.type) or types.is_large_string(field.type))
    if field.name in _NUMBERS:
        return bool(types.is_integer(field.type))
    is_score = field.name == "score" or scorer_of(field.name) is not None
    return is_score and bool(types.is_floating(field.type))


def _facts(row: Mapping[str, Any]) -> PairFacts:
    """From a row or object, of which values of other types than ours are left alone."""
    text = _those(row, _TEXTS, lambda value: isinstance(value, str) and value != "")
    number = _those(row, _NUMBERS, lambda value: type(value) is int)
    named = {name: value for name, value in row.items() if type(value) is float}
    scores = {s: value for name, value in named.items() if (s := scorer_of(name)) is not None}
    facts = PairFacts(**text, **number, scores=scores, score=named.get("score"))
    return UNKNOWN if facts == UNKNOWN else facts


def _those(
    row: Mapping[str, Any], names: tuple[str, ...], is_usable: Callable[[Any], bool]
) -> dict[str, Any]:
    return {name: row[name] for name in names if name in row and is_usable(row[name])}
