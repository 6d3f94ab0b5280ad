"""The records of an object: one of a JSON file, or a row of a table whose columns hold lists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from synthvlm.captions.readers.conversations import first_answer, has_image, is_turns
from synthvlm.captions.readers.json_rows import asks_by_number, names_columns
from synthvlm.captions.readers.json_values import AmbiguousObject
from synthvlm.captions.readers.likely_fields import likely_field, texts_of
from synthvlm.captions.readers.records import (
    DEFAULT_TEXT,
    NO_IMAGE,
    Fields,
    Record,
    kind_of,
)

__all__ = [
    "advice_inside",
    "holds_text",
    "holds_turns",
    "is_null",
    "is_utf8",
    "records_of_object",
    "usable_id",
]

#: Stands for a field that is not there.
_MISSING = object()

#: Fields of an image's id, where an object holds several captions of it and no field ``id``.
_IMAGE_IDS = ("imgid", "image_id")

#: The largest integer up to which floats hold all of them.
_EXACT = 2**53


def records_of_object(where: int | str, value: object, fields: Fields) -> Sequence[Record]:
    """The records of an object: a list of captions is as many, with ids ``<id>-0``, ``<id>-1``...

    A field that is asked for may lie in another one: ``row.caption``, ``sentences.raw`` (of each
    object of a list). Its last name alone is enough where one field holds such a one.
    """
    if type(value) is dict and fields.image is None and not fields.turns:
        text = value.get(fields.text)
        # The common case first: millions of objects come through here.
        if type(text) is str and (fields.id in (None, "id") or fields.id in value):
            return (Record(where, text, value.get(fields.id)),)
    if isinstance(value, AmbiguousObject):
        return (Record(where, problem=_twice(value)),)
    if not isinstance(value, dict):
        return _records_without_names(where, value, fields)
    return _records(where, value, fields)


def _records_without_names(where: int | str, value: object, fields: Fields) -> Sequence[Record]:
    """A caption by itself, a list of some, or a row of columns that are asked for by number."""
    if isinstance(value, list) and asks_by_number(fields):
        row = {str(number): cell for number, cell in enumerate(value, 1)}
        if fields.image is None and names_columns(where, row.get(fields.text)):
            return (Record(where, problem=f"it names the columns: {row[fields.text]!r}"),)
        return _records(where, row, fields)
    texts = _flat(value)
    if fields.text != DEFAULT_TEXT or not texts or not all(isinstance(one, str) for one in texts):
        return (Record(where, problem="not a JSON object"),)
    return [Record(where, text) for text in texts]


def _records(where: int | str, value: dict[str, Any], fields: Fields) -> Sequence[Record]:
    text = _lookup(value, fields.text, fields)
    # A customary name that stands somewhere inside may be the id of something else.
    identity = value.get("id") if fields.id == "id" else _lookup(value, fields.id, fields)
    image = _MISSING if fields.image is None else _follow(value, fields.image)
    problem = None
    values = {fields.text: text, fields.id: identity, fields.image: image}
    missing = next((name for name in fields.required if values[name] is _MISSING), None)
    if missing is not None:
        texts = texts_of([value])
        problem = fields.missing(missing, list(value), list(texts), likely_field(texts))
    text, identity, image = (None if one is _MISSING else one for one in (text, identity, image))
    is_conversation = fields.turns or is_turns(text)
    if is_conversation and problem is None and fields.image is None:
        if fields.only_with_image and is_turns(text) and not has_image(value, text):
            return (Record(where, NO_IMAGE),)
        text, problem = first_answer(text)
    if not isinstance(text, list) or is_conversation or problem is not None:
        return (Record(where, text, identity, problem, image),)
    text = _flat(text)
    if not text:
        return (Record(where, "", _image_id(value, identity), image=image),)
    return [
        _of_list(where, one, given, image, value, fields)
        for one, given in zip(text, _ids(value, identity, len(text)), strict=True)
    ]


def _of_list(
    where: int | str, text: object, given: object, image: object, value: object, fields: Fields
) -> Record:
    if isinstance(text, AmbiguousObject):
        return Record(where, None, given, _twice(text), image)
    if isinstance(text, dict):
        problem = f"{fields.text!r} holds {kind_of(text)}, not text"
        texts = texts_of([value])
        problem += fields.advice_for(fields.text, list(texts), likely_field(texts))
        return Record(where, None, given, problem, image)
    return Record(where, text, given, image=image)


def _twice(value: AmbiguousObject) -> str:
    return f"two of its fields are named {value.name!r}"


def _ids(value: dict[str, Any], identity: object, count: int) -> Sequence[object]:
    """The ids of several captions of an object: their own, or its own and a number."""
    if isinstance(identity, list):
        return identity if len(identity) == count else [identity] * count
    identity = _image_id(value, identity)
    usable = usable_id(identity)
    if usable is None:
        return [identity] * count
    return [f"{usable}-{number}" for number in range(count)]


def _image_id(value: dict[str, Any], identity: object) -> object:
    if identity is None:
        return next((value[name] for name in _IMAGE_IDS if name in value), None)
    return identity


def usable_id(given: object) -> str | None:
    """The text of an id, where it is one or stands for one exactly; None of any other value.

    Text, integers, floats and decimals that are integers, UUIDs, and bytes that are UTF-8.
    """
    if isinstance(given, bytes):
        try:
            given = given.decode("utf-8")
        except UnicodeDecodeError:
            return None
    if isinstance(given, str):
        return given if given and is_utf8(given) else None
    if isinstance(given, bool):
        return None
    if isinstance(given, float):
        exact = given.is_integer() and abs(given) <= _EXACT
        return str(int(given)) if exact else None
    if isinstance(given, Decimal):
        exact = given.is_finite() and given == given.to_integral_value()
        return str(int(given)) if exact and given.adjusted() < 40 else None
    return str(given) if isinstance(given, int | UUID) else None


def is_null(given: object) -> bool:
    """Whether a value stands for no id: null, NaN (as pandas writes it) or an empty text."""
    return given is None or given in ("", b"") or (isinstance(given, float) and math.isnan(given))


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8: it holds no lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _lookup(value: dict[str, Any], name: str | None, fields: Fields) -> object:
    """The value of a field, of one inside of another, or a list of those of a list's objects."""
    if name is None:
        return None
    if name in value:
        return value[name]
    path = fields.nested.get(name, name).replace("[]", "")
    if "." not in path:
        holders = [key for key, inner in value.items() if _holds(inner, name)]
        if len(holders) != 1:
            return _MISSING
        # Objects that follow may have an empty list there.
        path = fields.nested[name] = f"{holders[0]}.{name}"
    return _follow(value, path)


def _follow(value: object, path: str) -> object:
    if isinstance(value, AmbiguousObject) or not path:
        return value
    if isinstance(value, list):
        parts = [_follow(one, path) for one in value]
        return _flat([None if part is _MISSING else part for part in parts])
    if not isinstance(value, dict):
        return _MISSING
    if path in value:
        return value[path]
    first, _, rest = path.partition(".")
    return _follow(value[first], rest) if first in value else _MISSING


def _flat(value: object) -> list[object]:
    """The values of a list, and of the lists in it, in order; one value by itself."""
    if not isinstance(value, list):
        return [value]
    if not any(isinstance(one, list) for one in value):
        return value
    return [inner for one in value for inner in _flat(one)]


def _holds(inner: object, name: str) -> bool:
    if isinstance(inner, list):
        return any(isinstance(one, dict) and name in one for one in inner)
    return isinstance(inner, dict) and name in inner


def holds_text(value: object, fields: Fields) -> bool:
    """Whether an object holds the field of the caption, at any place of it."""
    return isinstance(value, dict) and _lookup(value, fields.text, fields) is not _MISSING


def holds_turns(value: object, fields: Fields) -> bool:
    """Whether the field of the caption of an object is a LLaVA conversation."""
    return isinstance(value, dict) and is_turns(_lookup(value, fields.text, fields))


def advice_inside(text: object, fields: Fields) -> str:
    """What to add to the command where the field of the caption is an object of texts."""
    texts = texts_of([{fields.text: text}]) if isinstance(text, dict) else {}
    if not texts:
        return ""
    one = likely_field(texts) or next(iter(texts))
    return fields.advice("text_field", one, "; name one of its texts, as in ")
