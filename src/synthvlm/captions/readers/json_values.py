"""JSON as others write it: NaN, halves of surrogate pairs, and two fields of one name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

__all__ = ["NO_NAMES", "AmbiguousObject", "json_names", "parse_json", "parse_pairs"]

NO_NAMES: Mapping[str, bytes] = {}


class AmbiguousObject:
    """Stands for an object in which two fields have one name.

    Attributes:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        """Name the field."""
        self.name = name


def json_names(names: Iterable[str]) -> dict[str, bytes]:
    """Names of fields, each with the way in which JSON writes it."""
    return {
        name: json.dumps(name, ensure_ascii=False).encode("utf-8", "surrogatepass")
        for name in names
    }


def parse_json(data: bytes, names: Mapping[str, bytes] = NO_NAMES) -> Any:
    """The value of a JSON text.

    NaN and infinities, which Python writes, are numbers. Half of a surrogate pair, and a byte that
    is not UTF-8, becomes a lone surrogate in its own string, and spoils no other one.

    Args:
        data: The text.
        names: Fields that are asked for, of ``json_names``: an object in which one of them stands
            twice is an ``AmbiguousObject``. Of other fields, the last one counts.

    Raises:
        json.JSONDecodeError: It is no JSON; ``pos`` counts characters, of which a byte that is not
            UTF-8 is one.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return _parse_slowly(data, names, error)
    for name, key in names.items():
        if data.count(key) > 1 and _stands_twice(name, key, data, value):
            return _parse_slowly(data, names, None)
    return value


def parse_pairs(data: bytes) -> list[tuple[str, Any]]:
    """The fields of a JSON object in order, those of equal names too.

    Raises:
        json.JSONDecodeError: As ``parse_json``.
    """
    pairs: list[tuple[str, Any]] = []

    def store(fields: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = fields  # the outermost object is the last one
        return dict(fields)

    try:
        _loads(data, store)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError):  # as below
        raise json.JSONDecodeError("a number is too long, or a value too deep", "", 0) from None
    return pairs


def _parse_slowly(data: bytes, names: Iterable[str], problem: orjson.JSONDecodeError | None) -> Any:
    def checked(pairs: list[tuple[str, Any]]) -> object:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next((name for name in names if keys.count(name) > 1), None)
            if twice is not None:
                return AmbiguousObject(twice)
        return fields

    try:
        return _loads(data, checked)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError):  # a number of thousands of digits; deep nesting
        if problem is None:
            raise json.JSONDecodeError("a number is too long, or a value too deep", "", 0) from None
        raise problem from None


def _loads(data: bytes, hook: Any) -> Any:
    return json.loads(data.decode("utf-8", "surrogateescape"), object_pairs_hook=hook)


def _stands_twice(name: str, key: bytes, data: bytes, value: Any) -> bool:
    """Whether some object holds a field twice; cheap where it stands in items of a list alone."""
    items = value if isinstance(value, list) else [value]
    if data.count(key) <= sum(type(item) is dict and name in item for item in items):
        return False
    return len(re.findall(re.escape(key) + rb"[ \t\r\n]*:", data)) > _holders(value, name)


def _holders(value: Any, name: str) -> int:
    """The objects, of any depth, that have a field."""
    count, left = 0, [value]
    while left:
        one = left.pop()
        if type(one) is dict:
            count += name in one
            left.extend(one.values())
        elif type(one) is list:
            left.extend(one)
    return count
