"""The whole job on small real models with random weights: what is done, and what is done again."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

import random_models
from synthvlm import Pipeline, Recipe
from synthvlm.data import PLAIN_CAPTION, candidate_seed
from synthvlm.errors import GenerationError, RecipeError, RunFolderError, TooManyFailuresError
from synthvlm.generators.base import GeneratedImages
from synthvlm.generators.diffusers import DiffusersGenerator
from synthvlm.stages.summary import StageSummary

SHAPES = ("circle", "star", "cross", "box", "ring", "arrow", "moon")
CAPTIONS = [f"a {size} {shape} of red" for size in ("big", "small", "thin") for shape in SHAPES]
DIRT = ["BUY!!! $$$ 100% 200% 300% !!!", "a big circle of red", "word"]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("models")
    return {
        "sd": random_models.save_sd(base / "sd"),
        "clip": random_models.save_clip(base / "clip"),
    }


class Calls(Counter[str]):
    """How often each model was asked, in images."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    from synthvlm.scorers.clip import ClipScorer

    counted = Calls()
    generate, embed = DiffusersGenerator.generate, ClipScorer.embed_images

    def counting_generate(self: Any, prompts: Any, seeds: Any) -> Any:
        counted["generated"] += len(prompts)
        return generate(self, prompts, seeds)

    def counting_embed(self: Any, images: Any) -> Any:
        counted["scored"] += len(images)
        return embed(self, images)

    monkeypatch.setattr(DiffusersGenerator, "generate", counting_generate)
    monkeypatch.setattr(ClipScorer, "embed_images", counting_embed)
    return counted


class Job:
    """Runs in one folder with one file of captions."""

    def __init__(self, folder: Path, models: dict[str, Path]) -> None:
        self.out = folder / "run"
        self.file = folder / "captions.txt"
        self.file.write_text("\n".join([*CAPTIONS, *DIRT]) + "\n")
        self.base = [
            f"generation.model={models['sd']}",
            f"scoring.clip.model={models['clip']}",
            "generation.steps=1",
            "generation.height=32",
            "generation.width=32",
            "generation.candidates=3",
            "run.shard_size=7",
            "run.threads=1",
        ]

    def run(
        self,
        *changes: str,
        until: str = "export",
        replace_images: bool = False,
        **options: Any,
    ) -> Sequence[StageSummary]:
        recipe = Recipe.load(
            "tiny", captions=[self.file], overrides=[*self.base, *changes], **options
        )
        return Pipeline(recipe, self.out).run(until, replace_images=replace_images).summaries

    def rows(self, folder: str) -> list[dict[str, Any]]:
        files = sorted((self.out / folder).glob("*.parquet"))
        return [row for file in files for row in pq.read_table(file).to_pylist()]

    def selection(self) -> list[tuple[str, int]]:
        rows = pq.read_table(self.out / "selection.parquet").to_pylist()
        return [(row["caption_id"], row["index"]) for row in rows]


@pytest.fixture
def job(tmp_path: Path, models: dict[str, Path]) -> Job:
    return Job(tmp_path, models)


def data_set(out: Path) -> dict[str, bytes]:
    folder = out / "dataset"
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_captions_in_a_data_set_out(job: Job, calls: Calls) -> None:
    job.run()
    captions = job.rows("captions")
    assert len(captions) == len(CAPTIONS) + len(DIRT)
    reasons = {row["text"]: row["rejected_by"] for row in captions if not row["kept"]}
    assert set(reasons.values()) == {"alnum_ratio", "special_char_ratio", "duplicate"}
    (twin,) = (row for row in captions if row["rejected_by"] == "duplicate")
    assert twin["duplicate_of"] == "captions-0"

    candidates = job.rows("candidates")
    assert len(candidates) == calls["generated"] == calls["scored"] == 3 * len(CAPTIONS)
    by_caption: dict[str, list[dict[str, Any]]] = {}
    for row in candidates:
        assert row["seed"] == candidate_seed(0, row["caption_id"], row["index"])
        assert row["score"] == pytest.approx(row["clip_score"] + 0.5 * row["ssim_score"])
        by_caption.setdefault(row["caption_id"], []).append(row)
    for rows in by_caption.values():
        (winner,) = (row for row in rows if row["chosen"])
        assert winner["score"] == max(row["score"] for row in rows)

    pairs = job.rows("pairs")
    assert [(p["caption_id"], p["index"]) for p in pairs] == [
        (c["caption_id"], c["index"]) for c in candidates if c["chosen"]
    ]
    assert Image.open(io.BytesIO(pairs[0]["image"])).size == (32, 32)
    assert len(pairs[0]["image_embedding"]) == random_models.WIDTH

    best = sorted((c for c in candidates if c["chosen"]), key=lambda c: -c["score"])[:5]
    assert job.selection() == [(c["caption_id"], c["index"]) for c in best]
    entries = json.loads((job.out / "dataset" / "llava.json").read_text())
    assert {entry["id"] for entry in entries} == {c["caption_id"] for c in best}


def test_previews_are_kept_for_losers_only(job: Job) -> None:
    job.run("report.preview_share=1.0")
    winners = {(p["caption_id"], p["index"]) for p in job.rows("pairs")}
    previews = {(p["caption_id"], p["index"]) for p in job.rows("previews")}
    assert len(previews) == 2 * len(CAPTIONS)
    assert not winners & previews


def test_the_same_run_again_does_nothing(job: Job, calls: Calls) -> None:
    job.run()
    before = data_set(job.out)
    calls.clear()
    summaries = job.run()
    assert not calls
    assert all(summary.reused == summary.shards for summary in summaries)
    assert data_set(job.out) == before


def test_a_changed_selection_generates_nothing(job: Job, calls: Calls) -> None:
    job.run()
    calls.clear()
    job.run("selection.top_fraction=null", "selection.top_n=9")
    assert not calls
    assert len(job.selection()) == 9
    files = data_set(job.out)
    assert sum(name.startswith("images/") for name in files) == 9
    assert len(json.loads(files["llava.json"])) == 9


def test_a_loosened_rule_generates_only_the_newcomers(job: Job, calls: Calls) -> None:
    job.run()
    calls.clear()
    job.run("curation.rules.special_char_ratio.min=0.0")
    assert calls["generated"] == calls["scored"] == 3  # the caption "word"


def test_a_changed_threshold_measures_nothing(job: Job) -> None:
    job.run(until="curate")
    measured = {path.name for path in (job.out / "measures").iterdir()}
    summaries = job.run("curation.rules.special_char_ratio.min=0.0", until="curate")
    assert {path.name for path in (job.out / "measures").iterdir()} == measured
    assert summaries[0].reused == summaries[0].shards
    assert summaries[1].counts["kept"] == len(CAPTIONS) + 1


def test_a_changed_weight_regenerates_only_changed_winners(job: Job, calls: Calls) -> None:
    job.run()
    before = {c["caption_id"]: c["index"] for c in job.rows("candidates") if c["chosen"]}
    calls.clear()
    job.run("scoring.ssim.weight=0.0")
    after = {c["caption_id"]: c["index"] for c in job.rows("candidates") if c["chosen"]}
    changed = {id for id in after if after[id] != before[id]}
    assert 0 < len(changed) < len(after)
    assert calls["generated"] == len(changed)
    for row in job.rows("candidates"):
        assert row["score"] == pytest.approx(row["clip_score"])


def test_changes_come_to_the_same_as_a_new_run(
    job: Job, tmp_path: Path, models: dict[str, Path]
) -> None:
    """Whatever way a recipe was reached: the same rows, and images equal but for rounding."""
    change = ["scoring.ssim.weight=0.0", "curation.rules.special_char_ratio=null"]
    job.run()
    job.run(*change, "generation.candidates=4")
    (tmp_path / "other").mkdir()
    other = Job(tmp_path / "other", models)
    other.run(*change, "generation.candidates=4")
    assert job.selection() == other.selection()
    for one, two in zip(job.rows("candidates"), other.rows("candidates"), strict=True):
        assert one["seed"] == two["seed"]
        assert one["chosen"] == two["chosen"]
        assert one["score"] == pytest.approx(two["score"], abs=1e-4)
    for one, two in zip(job.rows("pairs"), other.rows("pairs"), strict=True):
        assert (one["caption_id"], one["index"]) == (two["caption_id"], two["index"])
        left, right = (Image.open(io.BytesIO(row["image"])).tobytes() for row in (one, two))
        assert max(abs(a - b) for a, b in zip(left, right, strict=True)) <= 2


def test_more_candidates_generate_only_those(job: Job, calls: Calls) -> None:
    job.run()
    losers = {c["caption_id"]: c["score"] for c in job.rows("candidates") if c["chosen"]}
    calls.clear()
    job.run("generation.candidates=4")
    assert calls["generated"] == len(CAPTIONS)
    for row in job.rows("candidates"):
        if row["chosen"]:
            assert row["score"] >= losers[row["caption_id"]]


def test_fewer_candidates_regenerate_lost_winners(job: Job, calls: Calls) -> None:
    job.run()
    last = sum(c["chosen"] and c["index"] == 2 for c in job.rows("candidates"))
    calls.clear()
    job.run("generation.candidates=2")
    assert calls["generated"] == last
    assert len(job.rows("pairs")) == len(CAPTIONS)


def test_another_image_format_redraws_the_winners(job: Job, calls: Calls) -> None:
    job.run()
    calls.clear()
    job.run("generation.image.format=webp", "generation.image.quality=90")
    assert calls["generated"] == len(CAPTIONS)
    assert {row["format"] for row in job.rows("pairs")} == {"webp"}
    assert all(not name.endswith(".png") for name in data_set(job.out))


def test_another_model_setting_generates_everything(job: Job, calls: Calls) -> None:
    job.run()
    calls.clear()
    job.run("generation.guidance_scale=5.0", replace_images=True)
    assert calls["generated"] == 3 * len(CAPTIONS)


def test_more_input_keeps_what_is_done(job: Job, calls: Calls) -> None:
    job.run(limit=7)
    assert calls["generated"] == 21
    calls.clear()
    job.run(limit=14)
    assert calls["generated"] == 21
    assert len(job.rows("captions")) == 14


def test_a_lowered_limit_loses_no_image(job: Job, calls: Calls) -> None:
    job.run(limit=14)
    calls.clear()
    job.run(limit=7)
    assert len(job.selection()) == 2
    job.run(limit=14)
    assert not calls
    assert len(job.selection()) == 3


def test_batches_and_shards_do_not_change_the_selection(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    """At batch size 1, 3, 8 and shard size 7, 64: equal but for near ties, which are counted."""
    selections, scores = [], []
    for batch, shard in ((1, 7), (3, 64), (8, 7), (8, 64)):
        folder = tmp_path / f"{batch}-{shard}"
        folder.mkdir()
        job = Job(folder, models)
        job.run(f"run.batch_size={batch}", f"run.shard_size={shard}", until="select")
        selections.append(job.selection())
        rows = job.rows("candidates")
        scores.append({(r["caption_id"], r["index"]): (r["seed"], r["score"]) for r in rows})
    for other in scores[1:]:
        assert other.keys() == scores[0].keys()
        for key, (seed, score) in other.items():
            assert seed == scores[0][key][0]
            assert score == pytest.approx(scores[0][key][1], abs=1e-3)
    ranked = sorted((score for _, score in scores[0].values()), reverse=True)
    near_ties = sum(a - b < 1e-3 for a, b in pairwise(ranked))
    for other in selections[1:]:
        assert len(set(other) ^ set(selections[0])) <= 2 * near_ties


def test_one_bad_image_is_recorded_and_retried(
    job: Job, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = DiffusersGenerator.generate
    bad = {candidate_seed(0, "captions-3", 1)}

    def failing(self: Any, prompts: Any, seeds: Any) -> GeneratedImages:
        if bad & set(seeds):
            raise GenerationError("no luck")
        return generate(self, prompts, seeds)

    monkeypatch.setattr(DiffusersGenerator, "generate", failing)
    job.run("run.max_failed_share=0.02")
    (row,) = (c for c in job.rows("candidates") if c["status"] == "failed")
    assert (row["caption_id"], row["index"], row["problem"]) == ("captions-3", 1, "no luck")
    assert row["score"] is None
    assert len(job.rows("pairs")) == len(CAPTIONS)
    calls.clear()
    bad.clear()
    job.run("run.max_failed_share=0.02")
    assert calls["generated"] == 1
    assert {c["status"] for c in job.rows("candidates")} == {"ok"}


def test_too_many_failures_stop_the_run_and_it_resumes(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = DiffusersGenerator.generate

    def failing(self: Any, prompts: Any, seeds: Any) -> GeneratedImages:
        if not any(PLAIN_CAPTION in prompt for prompt in prompts):
            raise GenerationError("no such caption")
        return generate(self, prompts, seeds)

    monkeypatch.setattr(DiffusersGenerator, "generate", failing)
    with pytest.raises(TooManyFailuresError, match="max_failed_share"):
        job.run()
    monkeypatch.setattr(DiffusersGenerator, "generate", generate)
    job.run()
    assert len(job.rows("pairs")) == len(CAPTIONS)


def test_what_a_run_cannot_change_is_refused(job: Job) -> None:
    job.run(until="curate")
    with pytest.raises(RunFolderError, match="shard_size cannot change from 7"):
        job.run("run.shard_size=8")
    with pytest.raises(RunFolderError, match="threads cannot change from"):
        job.run("run.threads=77")


def test_a_generator_that_always_fails_stops_the_run_and_it_resumes(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Any, prompts: Any, seeds: Any) -> GeneratedImages:
        raise GenerationError("the device is gone")

    with monkeypatch.context() as patch:
        patch.setattr(DiffusersGenerator, "generate", failing)
        with pytest.raises(TooManyFailuresError, match=r"not even of .*: the device is gone"):
            job.run()
    assert not list(job.out.glob("candidates/*.parquet"))
    job.run()
    assert len(job.rows("pairs")) == len(CAPTIONS)


def test_an_unknown_stage_is_refused(job: Job) -> None:
    with pytest.raises(RecipeError, match="unknown stage 'paint'"):
        job.run(until="paint")


def test_no_caption_survives(job: Job, calls: Calls) -> None:
    job.run("curation.rules.alnum_ratio.min=1.0")
    assert not calls
    assert json.loads((job.out / "dataset" / "llava.json").read_text()) == []


def test_it_runs_on_another_file_system(job: Job) -> None:
    recipe = Recipe.load("tiny", captions=[job.file], overrides=job.base, limit=7)
    pipeline = Pipeline(recipe, "memory://synthvlm-run")
    pipeline.run("export")
    assert len(json.loads(pipeline.folder.read("dataset/llava.json"))) == 2
    summaries = Pipeline(recipe, "memory://synthvlm-run").run("export").summaries
    assert all(summary.reused == summary.shards for summary in summaries)
