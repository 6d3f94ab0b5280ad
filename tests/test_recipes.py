"""The built-in recipes sdxl and sd3 through the whole pipeline, on small models of their kind."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

import random_models
from synthvlm import Pipeline, Recipe

CAPTIONS = ["a red boat on a calm lake", "two cats asleep on a sofa", "a tall lamp by the window"]
SMALL = [
    "generation.dtype=float32",
    "generation.height=32",
    "generation.width=32",
    "generation.candidates=2",
    "run.threads=1",
]


def run(name: str, tmp_path: Path, clip: Path, *changes: str) -> Path:
    captions = tmp_path / "captions.jsonl"
    lines = [json.dumps({"id": f"c{n}", "caption": text}) for n, text in enumerate(CAPTIONS)]
    captions.write_text("\n".join(lines))
    overrides = [*SMALL, f"scoring.clip.model={clip}", *changes]
    recipe = Recipe.load(name, captions=[captions], overrides=overrides)
    Pipeline(recipe, tmp_path / "run").run("export")
    return tmp_path / "run"


def check(out: Path) -> None:
    entries = json.loads((out / "dataset" / "llava.json").read_text())
    assert [entry["conversations"][1]["value"] for entry in entries] == CAPTIONS
    (file,) = (out / "candidates").iterdir()
    assert pq.read_table(file).column("status").to_pylist() == ["ok"] * 6


def test_sdxl_base_and_refiner(tmp_path: Path, clip_folder: Path) -> None:
    base = random_models.save_sdxl(tmp_path / "base")
    refiner = random_models.save_sdxl_refiner(tmp_path / "refiner")
    changes = [
        f"generation.model={base}",
        "generation.variant=null",
        f"generation.refiner.model={refiner}",
        "generation.refiner.variant=null",
        "generation.steps=10",
    ]
    check(run("sdxl", tmp_path, clip_folder, *changes))


def test_sd3(tmp_path: Path, clip_folder: Path) -> None:
    model = random_models.save_sd3(tmp_path / "sd3")
    check(run("sd3", tmp_path, clip_folder, f"generation.model={model}", "generation.steps=2"))
