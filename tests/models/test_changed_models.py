"""A model that was changed in place is another one, for every command."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from changed_weights import change_a_tensor
from commands import Result
from commands import run as command
from synthvlm import Recipe
from synthvlm.models.file_hashes import cache_folder
from synthvlm.models.model_files import clip_path, language_path, pipeline_path
from synthvlm.planning.tune import tune
from synthvlm.stages.fingerprints import (
    image_fingerprint,
    model_rule_fingerprint,
    writer_fingerprint,
)

UNET = "unet/diffusion_pytorch_model.safetensors"
SETTLING_S = 2.1


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A copy of the embedded pipeline."""
    return Path(shutil.copytree(pipeline_path("tiny"), tmp_path / "models" / "pipeline"))


def settings(pipeline: Path) -> list[str]:
    changes = [f"generation.model={pipeline}", "generation.candidates=2", "run.threads=1"]
    return [word for change in changes for word in ("--set", change)]


def generated(out: Path) -> list[dict[str, Any]]:
    files = sorted((out / "candidates").glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


@pytest.mark.parametrize("changed", ["tensor", pytest.param("merges", marks=pytest.mark.long)])
def test_run_verify_and_regenerate_notice_it(tmp_path: Path, pipeline: Path, changed: str) -> None:
    out = tmp_path / "run"

    def do(*words: str) -> Result:
        return command(words, tmp_path)

    def run(*more: str) -> Result:
        done = do("run", "tiny", "--limit", "3", "--out", str(out), *settings(pipeline), *more)
        assert done.code == 0, done.err
        return done

    run()
    before = generated(out)
    time.sleep(SETTLING_S)  # from here on what the files are is remembered
    assert do("verify", str(out)).code == 0
    folder = cache_folder()
    assert folder is not None
    assert any(folder.iterdir())
    run()
    assert generated(out) == before
    if changed == "tensor":
        change_a_tensor(pipeline / UNET)
    else:  # two merges of the tokenizer change places
        file = pipeline / "tokenizer" / "merges.txt"
        lines = file.read_text().splitlines()
        lines[5], lines[6] = lines[6], lines[5]
        file.write_text("\n".join(lines) + "\n")
    verified = do("verify", str(out), "--json")
    stale = {finding["stage"] for finding in json.loads(verified.out)["findings"]}
    assert "generate" in stale
    assert {finding["kind"] for finding in json.loads(verified.out)["findings"]} == {"stale"}
    id = before[0]["caption_id"]
    assert "with another recipe, caption or models" in do("regenerate", str(out), "--id", id).out
    run("--replace-images")
    after = generated(out)
    assert [row["seed"] for row in after] == [row["seed"] for row in before]
    for old, new in zip(before, after, strict=True):
        assert old["fingerprint"] != new["fingerprint"]
        if changed == "tensor":
            assert old["score"] != new["score"]
    assert do("verify", str(out)).code == 0
    assert "by another recipe" not in do("regenerate", str(out), "--id", id).out


def test_a_search_of_settings_draws_again(tmp_path: Path, pipeline: Path) -> None:
    recipe = Recipe.load("tiny", overrides=[f"generation.model={pipeline}", "run.threads=1"])

    def scores() -> float:
        grid = {"generation.steps": [2]}
        (only,) = tune(recipe, grid, tmp_path / "tune", sample=4, candidates=1).combinations
        assert only.score is not None
        return only.score.value

    first = scores()
    time.sleep(SETTLING_S)
    assert scores() == first
    change_a_tensor(pipeline / UNET)
    assert scores() != first


def test_every_model_of_a_recipe_counts(tmp_path: Path) -> None:
    names = ["pipeline", "refiner", "lora", "safety", "clip", "match", "similar", "aligned", "tags",
             "judge", "captioner", "lm"]  # fmt: skip
    for name in names:
        source = pipeline_path("tiny") if name in ("pipeline", "refiner") else clip_path("tiny")
        shutil.copytree(source, tmp_path / name)
    for name in ("kenlm.bin", "sentences.model"):
        (tmp_path / name).write_bytes(bytes(3 * 2**20))
    (tmp_path / "captions.txt").write_text("A red circle.\n")
    rules = "curation.rules"
    changes = [
        f"generation.model={tmp_path}/pipeline",
        f"generation.refiner={{model: {tmp_path}/refiner}}",
        f"generation.loras=[{{model: {tmp_path}/lora}}]",
        f"generation.safety={{model: {tmp_path}/safety, labels: [x], max_probability: 0.5}}",
        f"scoring.clip.model={tmp_path}/clip",
        f"{rules}.image_text_matching={{model: {tmp_path}/match, min: 0.1}}",
        f"{rules}.clip_similarity={{model: {tmp_path}/similar, min: 0.1}}",
        f"{rules}.tagged_names={{model: {tmp_path}/tags, max: 0}}",
        f"{rules}.judge={{model: {tmp_path}/judge, min: 0.5}}",
        f"curation.alignment={{model: {tmp_path}/aligned, top_fraction: 0.5}}",
    ]
    kenlm = f"{{model: {tmp_path}/kenlm.bin, tokenizer: {tmp_path}/sentences.model, max: 500}}"
    lm = f"{{model: {tmp_path}/lm, max: 500}}"
    source = {
        "path": str(tmp_path / "captions.txt"),
        "image_captioner": {"model": str(tmp_path / "captioner")},
    }

    def recipe(perplexity: str) -> Recipe:
        loaded = Recipe.load("tiny", overrides=[*changes, f"{rules}.perplexity={perplexity}"])
        with_source = {**loaded.model_dump(mode="json"), "sources": [source]}
        return Recipe.model_validate(with_source)

    def fingerprints() -> dict[str, str]:
        one = recipe(lm)
        found = {
            name: model_rule_fingerprint(one, name)
            for name in ("image_text_matching", "clip_similarity", "alignment", "tagged_names",
                         "judge", "perplexity")
        }  # fmt: skip
        written = writer_fingerprint(one, one.sources[0])
        assert written is not None
        return {
            **found,
            "kenlm": model_rule_fingerprint(recipe(kenlm), "perplexity"),
            "images": image_fingerprint(one),
            "captions": written,
        }

    middle = {"pipeline": UNET, "refiner": UNET}
    depends = {
        "pipeline": "images", "refiner": "images", "lora": "images", "safety": "images",
        "clip": "images", "match": "image_text_matching", "similar": "clip_similarity",
        "aligned": "alignment", "tags": "tagged_names", "judge": "judge", "captioner": "captions",
        "lm": "perplexity", "kenlm.bin": "kenlm", "sentences.model": "kenlm",
    }  # fmt: skip
    assert set(depends) == {*names, "kenlm.bin", "sentences.model"}
    before = fingerprints()
    for name, what in depends.items():
        if name in names:
            change_a_tensor(tmp_path / name / middle.get(name, "model.safetensors"))
        else:
            with (tmp_path / name).open("r+b") as file:
                file.seek(3 * 2**19)
                file.write(b"x")
        after = fingerprints()
        assert {key for key in after if after[key] != before[key]} == {what}, name
        before = after


def test_the_chat_template_of_a_judge_counts(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(language_path("tiny"), tmp_path / "judge"))
    recipe = Recipe.load("tiny", overrides=[f"curation.rules.judge={{model: {folder}, min: 0.5}}"])
    seen = {model_rule_fingerprint(recipe, "judge")}
    for template in ("{{ messages }}", "{{ messages[0] }}"):
        (folder / "chat_template.jinja").write_text(template)
        seen.add(model_rule_fingerprint(recipe, "judge"))
    assert len(seen) == 3
