"""What all settings of a recipe have in common."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["TINY", "Settings", "Share", "SourcePath"]

#: Word that names the embedded models and the bundled captions.
TINY = "tiny"

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
