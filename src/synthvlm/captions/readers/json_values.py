"""JSON as others write it: NaN, halves of surrogate pairs, and two fields of one name."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

import orjson

__all__ = ["AmbiguousObject", "parse_json", "parse_pairs"]


class AmbiguousObject:
    """Stands for an object in which two fields have one name.

    Attributes:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        """Name the field."""
        self.name = name


def parse_json(data: bytes, names: Collection[str] = ()) -> Any:
    """The value of a JSON text.

    NaN and infinities, which Python writes, are numbers. Half of a surrogate pair, and a byte that
    is not UTF-8, becomes a lone surrogate in its own string, and spoils no other one.

    Args:
        data: The text.
        names: Fields that are asked for: an object in which one of them stands twice is an
            ``AmbiguousObject``. Of other fields, the last one counts.

    Raises:
        json.JSONDecodeError: It is no JSON; ``pos`` counts characters, of which a byte that is not
            UTF-8 is one.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return _parse_slowly(data, names, error)
    if any(_may_stand_twice(name, data, value) for name in names):
        return _parse_slowly(data, names, None)
    return value


def parse_pairs(data: bytes) -> list[tuple[str, Any]]:
    """The fields of a JSON object in order, those of equal names too.

    Raises:
        json.JSONDecodeError: As ``parse_json``.
    """
    pairs: list[tuple[str, Any]] = []

    def keep(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = found  # the outermost object is the last one
        return dict(found)

    try:
        _loads(data, keep)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError):  # as below
        raise json.JSONDecodeError("a number is too long, or a value too deep", "", 0) from None
    return pairs


def _parse_slowly(
    data: bytes, names: Collection[str], problem: orjson.JSONDecodeError | None
) -> Any:
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


def _may_stand_twice(name: str, data: bytes, value: Any) -> bool:
    """Whether some object may hold a field twice: cheap where none of any depth does."""
    key = json.dumps(name, ensure_ascii=False).encode("utf-8", "surrogatepass")
    items = value if isinstance(value, list) else [value]
    holders = sum(type(item) is dict and name in item for item in items)
    if data.count(key) <= holders:
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
