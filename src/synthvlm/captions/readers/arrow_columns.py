"""Which columns of Arrow tables hold what is asked for, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from synthvlm.captions.readers.conversations import IMAGE_NAMES
from synthvlm.captions.readers.likely_fields import likely_field
from synthvlm.captions.readers.records import Fields
from synthvlm.errors import CaptionSourceError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["columns_of", "is_binary", "is_turn", "reads_objects"]


def columns_of(schema: pa.Schema, fields: Fields) -> list[str]:
    """The columns that hold what is asked for, in themselves or in lists and objects of theirs."""
    names = schema.names
    texts = [place for field in schema for place in _texts_of(field)]
    columns = {name: _column_of(schema, name) for name in (fields.text, fields.id, fields.image)}
    asked = [name for name in fields.asked if name]
    inside = [name for name in asked if columns[name] not in (None, name)]
    fields.check(names + inside, texts, likely_field(dict.fromkeys(texts, ())))
    if fields.image is None:
        _check_text(schema, columns[fields.text], fields, texts)
    needed = [columns[name] for name in asked]
    if fields.image is not None and fields.text:
        column = columns[fields.text]
        needed += [column] if column is not None and _is_nested(schema.field(column).type) else []
    needed += [name for name in names if fields.only_with_image and IMAGE_NAMES.search(name)]
    return [*dict.fromkeys(column for column in needed if column is not None)]


def _check_text(schema: pa.Schema, column: str | None, fields: Fields, texts: list[str]) -> None:
    import pyarrow as pa

    kind = pa.null() if column is None else schema.field(column).type
    if not (_is_text(kind) or is_binary(kind) or _is_nested(kind) or pa.types.is_null(kind)):
        advice = fields.advice_for(fields.text, texts, likely_field(dict.fromkeys(texts, ())))
        raise CaptionSourceError(
            f"{fields.path}: column {column!r} is {kind}, expected text{advice}"
        )


def _column_of(schema: pa.Schema, name: str | None) -> str | None:
    """The column that is, or holds, a field; None: there is no such one, or several."""
    names = schema.names
    if name is None or name in names:
        return name
    first, dot, rest = name.replace("[]", "").partition(".")
    if dot:
        return first if names.count(first) == 1 and _holds(schema.field(first).type, rest) else None
    holders = [field.name for field in schema if _holds(field.type, name)]
    return holders[0] if len(holders) == 1 and name != "id" else None


def reads_objects(schema: pa.Schema, columns: list[str], fields: Fields) -> bool:
    """Whether rows are read as objects: a row may hold several captions, or fields inside."""
    places = [(name, _column_of(schema, name)) for name in (fields.text, fields.id, fields.image)]
    return any(
        column != name or (name != fields.image and _is_nested(schema.field(column).type))
        for name, column in places
        if column in columns
    )


def _inner(kind: pa.DataType) -> pa.DataType:
    """The type of a list's items, else the type itself."""
    from pyarrow import types

    while not types.is_dictionary(kind) and hasattr(kind, "value_type"):
        kind = kind.value_type
    return kind


def _holds(kind: pa.DataType, path: str) -> bool:
    import pyarrow as pa

    kind = _inner(kind)
    if not pa.types.is_struct(kind):
        return False
    if kind.get_field_index(path) >= 0:
        return True
    first, _, rest = path.partition(".")
    return bool(rest) and kind.get_field_index(first) >= 0 and _holds(kind.field(first).type, rest)


def _texts_of(field: pa.Field, place: str = "") -> Iterator[str]:
    """The places of text in a column."""
    import pyarrow as pa

    kind = _inner(field.type)
    if _is_text(kind) or is_turn(kind):
        yield place + field.name
    elif pa.types.is_struct(kind):
        for part in kind:
            yield from _texts_of(part, f"{place}{field.name}.")


def is_turn(kind: pa.DataType) -> bool:
    """Whether objects are turns of a conversation."""
    pairs = (("from", "value"), ("role", "content"))
    return any(_holds(kind, first) and _holds(kind, second) for first, second in pairs)


def _is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    tests = (types.is_string, types.is_large_string, types.is_string_view)
    return any(test(kind) for test in tests)


def is_binary(kind: pa.DataType) -> bool:
    """Whether a column holds bytes."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    views = (types.is_binary_view, types.is_fixed_size_binary)
    return any(test(kind) for test in (types.is_binary, types.is_large_binary, *views))


def _is_nested(kind: pa.DataType) -> bool:
    """Whether a column holds lists or objects."""
    from pyarrow import types

    return bool(types.is_nested(kind))
