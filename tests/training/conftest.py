"""Small parts and data, and recipes on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from random_llava import save_language, save_tower

COLORS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}


def _entry(n: int, *, image: bool = True, turns: int = 1) -> dict[str, Any]:
    color = list(COLORS)[n % len(COLORS)]
    conversation = []
    for turn in range(turns):
        mark = "\n<image>" if image and turn == 0 else ""
        conversation.append({"from": "human", "value": f"Which colour is it?{mark}"})
        conversation.append({"from": "gpt", "value": f"a {color} picture{', yes' * (n % 4)}"})
    record: dict[str, Any] = {"id": f"r{n}", "conversations": conversation}
    return {**record, "image": f"0/{n}.png"} if image else record


def _save_data(folder: Path, entries: list[dict[str, Any]]) -> Path:
    """``llava.json`` and ``images/``, as a run exports them; returns the folder."""
    (folder / "images" / "0").mkdir(parents=True)
    for n, record in enumerate(entries):
        if "image" in record:
            color = COLORS[list(COLORS)[n % len(COLORS)]]
            pixels = np.full((20, 24, 3), color, np.uint8)
            pixels[:, : n % 20] //= 2
            Image.fromarray(pixels).save(folder / "images" / record["image"])
    (folder / "llava.json").write_text(json.dumps(entries))
    return folder


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
    return _save_data(tmp_path_factory.mktemp("pairs") / "dataset", [_entry(n) for n in range(24)])


@pytest.fixture(scope="session")
def instructions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 conversations with an image and 8 without, of one or two answers."""
    entries = [_entry(n, image=n % 3 > 0, turns=1 + n % 2) for n in range(24)]
    return _save_data(tmp_path_factory.mktemp("instructions"), entries)


@pytest.fixture(scope="session")
def recipes(parts: dict[str, str], pairs: Path, instructions: Path) -> dict[str, dict[str, Any]]:
    """Plain values of a small recipe of each kind; a checkpoint every other of six steps."""
    rest: dict[str, Any] = {
        "seed": 3,
        "model": parts,
        "checkpoint_steps": 2,
        "threads": 1,  # whatever other tests of this process set
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
