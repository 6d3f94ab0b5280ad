"""What all settings of a recipe have in common."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["TINY", "Settings", "Share", "SourcePath", "published_name"]

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


class Settings(BaseModel):
    """Strict settings: an unknown key, a wrong type, NaN or infinity is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def published(self) -> Self:
        """The same settings with `published_name` for paths, for cards and reports."""
        fields = type(self).model_fields
        return self.model_copy(update=_published({name: getattr(self, name) for name in fields}))


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
        return {key: item if key in _PROSE else _published(item) for key, item in value.items()}
    return published_name(value) if isinstance(value, str) else value
