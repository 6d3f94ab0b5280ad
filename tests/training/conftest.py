"""Small parts and data, and recipes on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_llava import entry, save_data, save_language, save_tower


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A vision tower and a language model."""
    folder = tmp_path_factory.mktemp("parts")
    return {
        "vision_tower": str(save_tower(folder / "tower")),
        "language_model": str(save_language(folder / "words")),
    }


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pairs, as a run exports them."""
    return save_data(tmp_path_factory.mktemp("pairs") / "dataset", [entry(n) for n in range(24)])


@pytest.fixture(scope="session")
def instructions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 conversations with an image and 8 without, of one or two answers."""
    entries = [entry(n, image=n % 3 > 0, turns=1 + n % 2) for n in range(24)]
    return save_data(tmp_path_factory.mktemp("instructions"), entries)


@pytest.fixture(scope="session")
def recipes(parts: dict[str, str], pairs: Path, instructions: Path) -> dict[str, dict[str, Any]]:
    """Plain values of a small recipe of each kind; a checkpoint every other of six steps."""
    rest: dict[str, Any] = {
        "seed": 3,
        "model": parts,
        "checkpoint_steps": 2,
        "image_workers": 0,
        "report": False,
    }
    optimisation = {
        "epochs": 2,
        "global_batch_size": 8,
        "device_batch_size": 4,
        "learning_rate": 1e-2,
        "precision": "float32",
    }
    pretrain = {
        **rest,
        "stage": "pretrain",
        "prompt": "plain",
        "image": "crop",
        "data": [{"path": str(pairs.parent)}],
        "optimisation": optimisation,
    }
    full = {
        **rest,
        "stage": "finetune",
        "prompt": "v1",
        "image": "pad",
        "data": [{"path": str(instructions / "llava.json")}],
        "optimisation": {**optimisation, "projector_learning_rate": 1e-3},
    }
    lora = {**full, "lora": {"rank": 4, "alpha": 8, "dropout": 0.3}}
    return {"pretrain": pretrain, "full": full, "lora": lora}
