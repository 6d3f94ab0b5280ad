"""Small random pipelines, each saved once for all tests of the room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from random_pipelines import SAVERS
from synthvlm.generators.diffusers import DiffusersGenerator
from synthvlm.generators.settings import DiffusersSettings, Refiner

Folder = Callable[[str], Path]
Make = Callable[..., DiffusersGenerator]

SETTINGS: dict[str, Any] = {
    "device": "cpu",
    "dtype": "float32",
    "steps": 2,
    "guidance_scale": 5.0,
    "height": 32,
    "width": 32,
}


#: They ignore guidance_scale, and refuse one that would do something.
UNGUIDED = {"flux-schnell", "qwen-image"}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The folder of a pipeline, by its short name."""
    base = tmp_path_factory.mktemp("pipelines")

    def saved(name: str) -> Path:
        path = base / name
        return path if path.exists() else SAVERS[name](path)

    return saved


@pytest.fixture(scope="session")
def make(folder: Folder) -> Make:
    """A generator by short name; ``+refiner`` and ``-without-t5`` may follow the name."""

    def build(kind: str, **changes: Any) -> DiffusersGenerator:
        options = {**SETTINGS, **changes}
        if kind in UNGUIDED and "guidance_scale" not in changes:
            options["guidance_scale"] = 1.0
        name, _, refined = kind.partition("+")
        name, _, dropped = name.partition("-without-")
        if refined:
            options.setdefault("refiner", Refiner(str(folder("refiner"))))
        if dropped:
            options["drop_components"] = ["text_encoder_3", "tokenizer_3"]
        return DiffusersGenerator(DiffusersSettings(model=str(folder(name)), **options))

    return build
