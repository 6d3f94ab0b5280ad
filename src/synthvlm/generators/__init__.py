"""Text to image."""

from __future__ import annotations

from synthvlm.components.table import Table
from synthvlm.generators.base import GeneratedImages, Generator

__all__ = ["GENERATORS", "GeneratedImages", "Generator"]

GENERATORS = Table(
    "generator",
    Generator,
    {
        "diffusers": "synthvlm.generators.diffusers:DiffusersGenerator",
        "endpoint": "synthvlm.generators.endpoint:EndpointGenerator",
    },
)
