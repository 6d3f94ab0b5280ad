"""Settings: strict, typed models, and what of them a fingerprint covers.

What is generated, measured or trained is known by a fingerprint, and a run folder is worth the GPU
hours that made it. So that a new release does not make them worthless:

- a setting is left out of the fingerprint while it has its default. The default of a new setting
  therefore is its neutral value, with which all is as it was before the setting existed;
- a setting whose default may change in a later release is marked ``InHash.ALWAYS``;
- a setting that changes how the work is done, or what is decided of its result, is marked
  ``InHash.NEVER``;
- a setting that names a model or a file is marked ``ModelName``: its content counts, not its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = [
    "TINY",
    "Identify",
    "InHash",
    "ModelName",
    "Settings",
    "Share",
    "SourcePath",
    "chosen_values",
    "identity_values",
    "named_models",
    "published_name",
]

#: Word that names the embedded models and the bundled captions.
TINY = "tiny"
#: Settings that are words for a model, and no path whatever they begin with.
_PROSE = {"concepts", "instructions", "negative_prompt", "prefix", "prompt"}

Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _without_password(path: str) -> str:
    # The message does not repeat the value. In a chain of URLs it may be any of them.
    if re.search(r"://[^/?#\s]*@", path):
        raise ValueError("a URL must hold no user or password: recipes are written to disk")
    return path


#: A path or URL of what is read.
SourcePath = Annotated[str, Field(min_length=1), AfterValidator(_without_password)]


class InHash(Enum):
    """Marks a setting, as in ``steps: Annotated[int, InHash.ALWAYS] = 20``."""

    #: Its default may change in a later release, so it is hashed at its default, too.
    ALWAYS = "always"
    #: What is generated, measured or trained does not depend on it.
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class ModelName:
    """Marks a setting that names a model or a file, whose content is hashed.

    Attributes:
        kind: What ``tiny`` stands for there: the embedded ``pipeline``, ``clip`` model,
            ``language`` model or ``verifier``; None where it stands for none.
    """

    kind: Literal["pipeline", "clip", "language", "verifier"] | None = None


_MARKS = (InHash, ModelName)

#: What the model or file of that name is, by its content.
Identify = Callable[[str, ModelName], str]


class Settings(BaseModel):
    """Strict settings: an unknown key, a wrong type, NaN or infinity is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def published(self) -> Self:
        """The same settings with `published_name` for paths, for cards and reports."""
        fields = type(self).model_fields
        return self.model_copy(update=_published({name: getattr(self, name) for name in fields}))


def identity_values(settings: Settings, identify: Identify) -> list[tuple[str, object]]:
    """What a result depends on in some settings: plain values, sorted by name.

    Args:
        settings: The settings; nested ones are followed.
        identify: Says what a model is, by its content.
    """
    return _values(settings, identify, left_out=InHash.NEVER)


def chosen_values(settings: Settings) -> list[tuple[str, object]]:
    """What some settings say, those too that change no result: plain values, sorted by name.

    Models are known by their names. As in ``identity_values``, a new setting changes nothing.
    """
    return _values(settings, lambda name, _: name, left_out=None)


def marks_of(model: type[Settings], name: str) -> list[Any]:
    """The marks of a setting: its own, else those of the class whose setting it redefines.

    So a plug-in that gives ``weight`` another default need not repeat that no result depends on it.
    """
    for base in model.__mro__:
        if issubclass(base, Settings) and name in base.model_fields:
            marks = [m for m in base.model_fields[name].metadata if isinstance(m, _MARKS)]
            if marks:
                return marks
    return []


def _values(
    settings: Settings, identify: Identify, left_out: InHash | None
) -> list[tuple[str, object]]:
    values: list[tuple[str, object]] = []
    for name, field in sorted(type(settings).model_fields.items()):
        value, marks = getattr(settings, name), marks_of(type(settings), name)
        if left_out in marks:
            continue
        if InHash.ALWAYS not in marks and value == field.get_default(call_default_factory=True):
            continue
        model = next((mark for mark in marks if isinstance(mark, ModelName)), None)
        if model is not None and value is not None:
            values.append((name, identify(value, model)))
        else:
            values.append((name, _plain(value, identify, left_out)))
    return values


def _plain(value: Any, identify: Identify, left_out: InHash | None) -> object:
    """A value as ``repr`` shows it the same in every version of Python and pydantic."""
    if isinstance(value, Settings):
        return _values(value, identify, left_out)
    if isinstance(value, list | tuple):
        return [_plain(item, identify, left_out) for item in value]
    if isinstance(value, Mapping):
        return sorted((key, _plain(item, identify, left_out)) for key, item in value.items())
    return value


def named_models(settings: Settings) -> Iterator[tuple[str, str | None, ModelName]]:
    """The models that some settings name: name, revision on the hub, and the mark."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        marks = marks_of(type(settings), name)
        mark = next((mark for mark in marks if isinstance(mark, ModelName)), None)
        if mark is not None and value is not None:
            yield value, getattr(settings, "revision", None), mark


def published_name(path: str) -> str:
    """A hub id or a path as it was spelt; of one that leads elsewhere its last part alone.

    Such a path (absolute, ``~`` or ``..`` in it) tells of the machine, often a user's name. So does
    a URL of a local file; in a chain of URLs it may be any of them.
    """
    return "::".join(map(_published_part, path.split("::")))


def _published_part(path: str) -> str:
    local = PurePath(re.sub(r"^(file|local):(//)?", "", path))
    if local.is_absolute() or ".." in local.parts or str(local).startswith("~"):
        return local.name or "data"
    return path


def _published(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.published()
    if isinstance(value, list):
        return [_published(item) for item in value]
    if isinstance(value, dict):
        return {
            published_name(key): item if key in _PROSE else _published(item)
            for key, item in value.items()
        }
    return published_name(value) if isinstance(value, str) else value
