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
        name, _, refined = kind.partition("+")
        name, _, dropped = name.partition("-without-")
        if refined:
            options.setdefault("refiner", Refiner(str(folder("refiner"))))
        if dropped:
            options["drop_components"] = ["text_encoder_3", "tokenizer_3"]
        return DiffusersGenerator(DiffusersSettings(model=str(folder(name)), **options))

    return build
