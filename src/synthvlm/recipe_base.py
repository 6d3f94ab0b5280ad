"""What all settings of a recipe have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["TINY", "Settings", "Share"]

#: Word that names the embedded models and the bundled captions.
TINY = "tiny"

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Settings(BaseModel):
    """Strict settings: an unknown key, a wrong type, NaN or infinity is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
