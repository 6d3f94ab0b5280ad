"""Every setting that a recipe can have, by its key: for completion, and for lists of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, PlainValidator
from pydantic.fields import FieldInfo

from synthvlm.components.table import Table
from synthvlm.exporters import EXPORTERS
from synthvlm.generators import GENERATORS
from synthvlm.selectors import SELECTORS

__all__ = ["ListedSetting", "listed_settings"]

#: Settings that name a component, or several.
_NAMES: dict[str, Table[Any]] = {
    "generation.generator": GENERATORS,
    "selection.method": SELECTORS,
    "export.formats": EXPORTERS,
}
#: Settings that hold those of the component that is named beside them.
_OPTIONS: dict[str, Table[Any]] = {"generation.options": GENERATORS, "selection.options": SELECTORS}


@dataclass(frozen=True, slots=True)
class ListedSetting:
    """A setting.

    Attributes:
        key: As in ``--set KEY=VALUE``; of a list the settings of its first entry.
        model: The settings that it is one of.
        field: Its type, default and description.
        choices: The values that it can have, as they are written in a recipe; empty where they
            cannot be listed.
    """

    key: str
    model: type[BaseModel]
    field: FieldInfo
    choices: tuple[str, ...]


def listed_settings(model: type[BaseModel], prefix: str = "") -> Iterator[ListedSetting]:
    """The settings of a model and of all in it, in their order; of tables those of each component.

    Args:
        model: Such as ``Recipe``.
        prefix: What their keys begin with.
    """
    for name, field in model.model_fields.items():
        key = prefix + name
        table = _table(field)
        # Of a mapping, whose keys are the user's, the settings of an entry have no key to list.
        inner = [] if _has(field.annotation, dict) else list(_models(field.annotation))
        if table is not None:
            for component in table.names():
                yield from listed_settings(table[component].Settings, f"{key}.{component}.")
            continue
        if not inner or any(_has(field.annotation, kind) for kind in (type(None), list)):
            yield ListedSetting(key, model, field, tuple(_choices(key, field.annotation)))
        place = "0." if _has(field.annotation, list) else ""
        for one in inner:
            yield from listed_settings(one, f"{key}.{place}")
        seen = set()
        for component in _OPTIONS[key].names() if key in _OPTIONS else ():
            for setting in listed_settings(_OPTIONS[key][component].Settings, f"{key}."):
                if setting.key not in seen:
                    yield setting
                seen.add(setting.key)


def _table(field: FieldInfo) -> Table[Any] | None:
    """The table whose components a field has settings of."""
    for item in field.metadata:
        owner = getattr(item.func, "__self__", None) if isinstance(item, PlainValidator) else None
        if isinstance(owner, Table):
            return owner
    return None


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _has(annotation: Any, kind: type) -> bool:
    parts = (annotation, get_origin(annotation))
    return kind in parts or any(_has(part, kind) for part in get_args(annotation))


def _choices(key: str, annotation: Any) -> Iterator[str]:
    if key in _NAMES:
        yield from _NAMES[key].names()
    elif annotation is bool:
        yield from ("true", "false")
    elif annotation is type(None):
        yield "null"
    elif get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    else:
        for part in get_args(annotation):
            yield from _choices("", part)
