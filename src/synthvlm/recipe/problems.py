"""What is wrong with a recipe, a line per problem: the key's path, and the nearest valid name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from synthvlm.errors import RecipeError, nearest

__all__ = ["validated"]

_Model = TypeVar("_Model", bound=BaseModel)


def validated(model: type[_Model], values: Mapping[str, Any], label: str) -> _Model:
    """Settings of plain values, as read from YAML.

    Args:
        model: What they are to be.
        values: The values.
        label: What messages call them.

    Raises:
        RecipeError: A line for each problem, with the key's path.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [f"{label}: {line}" for line in _explain(error, model)]
        raise RecipeError("\n".join(lines)) from None


def _explain(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    """A line for each problem; the alternatives of a union are one problem.

    Where an entry of a list or mapping is wrong, what else its union would take is no news.
    """
    lines: dict[str, list[str]] = {}
    unions = set()
    for problem in error.errors():
        location = list(problem["loc"])
        if problem["type"] != "extra_forbidden":  # an unknown key may have any name
            location = [part for part in location if not _names_alternative(part)]
        path = ".".join(_shown(part) for part in location)
        lines.setdefault(path, []).append(_message(problem, location, model))
        if len(location) < len(problem["loc"]):
            unions.add(path)
    for path, messages in lines.items():
        if path in unions and any(other.startswith(f"{path}.") for other in lines):
            continue
        # What is wrong with the whole has no path; the label names it.
        yield (f"{path}: " if path else "") + ", or ".join(messages)


def _names_alternative(part: int | str) -> bool:
    """Whether pydantic put this into a location for a branch of `Literal["auto"] | int`."""
    return part == "int" or str(part).startswith(("literal[", "list[", "dict["))


def _shown(part: int | str) -> str:
    return str(part) if str(part).isprintable() else repr(part)


def _message(problem: ErrorDetails, location: Sequence[int | str], model: type[BaseModel]) -> str:
    kind, given = problem["type"], problem.get("input")
    if kind == "component":
        return problem["msg"]
    if kind == "extra_forbidden":
        return f"unknown key{nearest(str(location[-1]), _fields_at(model, location[:-1]))}"
    if list(location) == ["sources"] and (kind == "missing" or not given):
        return "no captions are named: add --captions FILE, or set sources"
    if kind == "model_type":
        return f"expected settings (KEY: VALUE), not {_excerpt(given)}"
    message = problem["msg"].removeprefix("Value error, ")
    secret = "password" in message
    shown = isinstance(given, str | int | float | bool) and not secret
    return f"{message[:1].lower()}{message[1:]}" + (f" (got {_excerpt(given)})" if shown else "")


def _excerpt(given: object) -> str:
    try:
        text = "nothing" if given is None else repr(given)
    except ValueError:  # Python writes no integer of thousands of digits
        text = "a huge number"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _fields_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    for part in location:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        if field is None:
            return []
        nested = _nested_model(field.annotation)
        if nested is None:
            return []
        model = nested
    return list(model.model_fields)


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        model = _nested_model(argument)
        if model is not None:
            return model
    return None
