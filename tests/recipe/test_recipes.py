"""Every built-in recipe through the whole pipeline, on small random models of its kind."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import random_models
from random_pipelines import SAVERS, save_sdxl_lora
from synthvlm import Pipeline, Recipe
from synthvlm.recipe import RECIPES

CAPTIONS = ["a red boat on a calm lake", "two cats asleep on a sofa", "a tall lamp by the window"]
SMALL = [
    "generation.dtype=float32",
    "generation.variant=null",
    "generation.height=32",
    "generation.width=32",
    "generation.candidates=2",
    "run.threads=1",
]

#: The kind of model of each recipe.
KINDS = {
    "flux-dev": "flux",
    "flux-schnell": "flux-schnell",
    "flux2-klein": "flux2-klein",
    "pixart-sigma": "pixart-sigma",
    "qwen-image": "qwen-image",
    "sana": "sana",
    "sd3": "sd3",
    "sd35": "sd3",
    "sdxl": "sdxl",
    "sdxl-base": "sdxl",
    "sdxl-lcm": "sdxl",
    "sdxl-lightning": "sdxl",
    "sdxl-turbo": "sdxl",
    "z-image": "z-image",
}


def run(name: str, tmp_path: Path, clip: Path, *changes: str) -> Path:
    captions = tmp_path / "captions.jsonl"
    lines = [json.dumps({"id": f"c{n}", "caption": text}) for n, text in enumerate(CAPTIONS)]
    captions.write_text("\n".join(lines))
    overrides = [*SMALL, f"scoring.clip.model={clip}", *changes]
    recipe = Recipe.load(name, captions=[captions], overrides=overrides)
    Pipeline(recipe, tmp_path / "run").run("export")
    return tmp_path / "run"


def test_every_recipe_is_tested_here() -> None:
    assert KINDS.keys() | {"tiny"} == RECIPES.lines().keys()


@pytest.mark.parametrize("name", KINDS)
def test_recipe(name: str, tmp_path: Path, clip_folder: Path) -> None:
    model = SAVERS[KINDS[name]](tmp_path / "model")
    changes = [f"generation.model={model}"]
    recipe = Recipe.load(name, captions=["captions.txt"])
    if recipe.generation.steps > 10:
        changes.append("generation.steps=2")
    if recipe.generation.refiner is not None:
        refiner = random_models.save_sdxl_refiner(tmp_path / "refiner")
        changes += [
            f"generation.refiner.model={refiner}",
            "generation.refiner.variant=null",
            "generation.steps=10",
        ]
    for number, lora in enumerate(recipe.generation.loras):
        pytest.importorskip("peft")
        folder = save_sdxl_lora(model, tmp_path / "lora", lora.weight_name)
        changes.append(f"generation.loras.{number}.model={folder}")
    out = run(name, tmp_path, clip_folder, *changes)
    entries = json.loads((out / "dataset" / "llava.json").read_text())
    assert [entry["conversations"][1]["value"] for entry in entries] == CAPTIONS
    (file,) = (out / "candidates").iterdir()
    assert pq.read_table(file).column("status").to_pylist() == ["ok"] * 6
