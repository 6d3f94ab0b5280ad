"""The plan of a run against the run itself."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from fake_models import FakeGenerator, use_models
from synthvlm import Pipeline, Recipe
from synthvlm.cli import app
from synthvlm.errors import (
    CaptionSourceError,
    GenerationError,
    RecipeError,
    TooManyFailuresError,
)
from synthvlm.generators.base import GeneratedImages
from synthvlm.planning.plan import Plan, plan


class Generator(FakeGenerator):
    """Takes its time with the first batch, and fails where it is told to."""

    def __init__(self) -> None:
        self.first_s = 0.0
        self.fails = 0

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        if any(seed % 100 < self.fails for seed in seeds):
            raise GenerationError("this seed fails")
        if self.first_s and not self.generated:
            time.sleep(self.first_s)
        return super().generate(prompts, seeds)


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> Generator:
    generator = Generator()
    use_models(monkeypatch, generator)
    return generator


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made in a test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def captions(folder: Path, count: int) -> Path:
    """Distinct captions, a fifth of which are too short, and each tenth of which occurs twice."""
    lines = []
    for number in range(count):
        text = f"Kite {number}." if number % 5 == 0 else f"A red kite number {number}, by the sea."
        lines += [text] * (2 if number % 10 == 1 else 1)
    path = folder / "captions.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


RULES = ["curation.rules.special_char_ratio=null", "curation.rules.word_count={min: 5}"]


def recipe(file: Path, *changes: str, limit: int | None = None) -> Recipe:
    overrides = [*RULES, "run.threads=1", "generation.candidates=3", *changes]
    return Recipe.load("tiny", captions=[file], overrides=overrides, limit=limit)


def the_run(settings: Recipe, out: Path) -> dict[str, Any]:
    summaries = Pipeline(settings, out).run("generate").summaries
    return {key: value for summary in summaries for key, value in summary.counts.items()}


def test_a_plan_tried_on_all_captions_is_the_run(tmp_path: Path, generator: Generator) -> None:
    settings = recipe(captions(tmp_path, 40))
    found = plan(settings, sample=100)
    before = generator.generated
    truth = the_run(settings, tmp_path / "run")
    assert found["captions_read"].value == truth["read"] == 44
    assert found["captions_kept"].value == truth["kept"] == 32
    assert found["images"].value == generator.generated - before == 96
    assert found["captions_kept"].is_exact
    assert found["images"].is_exact


def test_a_target_is_planned_as_it_runs(tmp_path: Path, generator: Generator) -> None:
    changes = [
        "selection={min_scores: {clip_score: 0.75}}",
        "target={pairs: 9, max_images: 90}",
        "run.shard_size=8",
    ]
    settings = recipe(captions(tmp_path, 60), *changes)
    found = plan(settings, sample=100)
    before = generator.generated
    Pipeline(settings, tmp_path / "run").run("generate")
    images = generator.generated - before
    assert 27 <= images < 3 * 48
    assert found["images"].value == pytest.approx(images, rel=0.5)
    assert found["captions_taken"].value == found["images"].value / 3 < 48
    assert "so 9 pairs can be reached" in found.text()
    too_much = recipe(captions(tmp_path, 60), *changes, "target={pairs: 30, max_images: 90}")
    assert plan(too_much, sample=100)["images"].value == 90
    assert "of 30 pairs will be reached" in plan(too_much, sample=100).text()
    more = ["selection={method: quotas, options: {field: source}, near_duplicate_images: {}}"]
    text = plan(recipe(captions(tmp_path, 60), *changes, *more), sample=4).text()
    assert "9 pairs can be reached, if each quota has captions enough" in text
    assert "near_duplicate_images (more captions for the target)" in text


def test_the_kept_share_of_a_sample_has_a_range(tmp_path: Path, generator: Generator) -> None:
    settings = recipe(captions(tmp_path, 2000))
    found = plan(settings)
    kept = found["captions_kept"]
    assert generator.generated == 48
    assert found["captions_read"].value == 2200
    assert kept.low is not None
    assert kept.high is not None
    # 1,600 of 2,000 distinct captions pass the rules.
    assert 0 < 2000 * 0.7 < kept.low < 1600 < kept.high < 2000 * 0.9
    again = plan(settings)
    assert again["captions_kept"] == kept
    assert plan(settings.changed(limit=55))["captions_read"].value == 55


def test_time_is_that_of_batches_behind_the_first(tmp_path: Path, generator: Generator) -> None:
    generator.first_s = 1.0
    found = plan(recipe(captions(tmp_path, 40)), sample=32, price_per_hour=2.0, gpus=4)
    seconds = found["seconds_per_image"]
    assert seconds.value < 0.1
    assert seconds.low is not None
    assert seconds.low < seconds.value
    assert found["hours"].value == pytest.approx(96 * seconds.value / 3600)
    assert found["hours_each"].value == pytest.approx(found["hours"].value / 4)
    assert found["cost"].value == pytest.approx(found["hours"].value * 2)


def test_one_batch_is_not_enough_and_the_plan_says_so(tmp_path: Path, generator: Generator) -> None:
    found = plan(recipe(captions(tmp_path, 40)), sample=2)
    assert found["seconds_per_image"].low is None
    assert found["hours"].high is None
    assert "not known" in found.text()
    assert any("a larger --sample" in note for note in found.notes)


@pytest.mark.parametrize("adaptive", ["{threshold: 1.0}", "{threshold: 1.1, decay: 0.1}"])
def test_adaptive_best_of_k_is_planned_as_it_draws(
    tmp_path: Path, generator: Generator, adaptive: str
) -> None:
    change = [f"generation.adaptive={adaptive}", "generation.candidates=6"]
    settings = recipe(captions(tmp_path, 40), *change)
    found = plan(settings, sample=100)
    before = generator.generated
    the_run(settings, tmp_path / "run")
    assert found["images"].value == pytest.approx(generator.generated - before)
    assert 1 < found["images_per_caption"].value < 6
    assert not found["images"].is_exact


def test_calibration_is_part_of_the_plan(tmp_path: Path, generator: Generator) -> None:
    settings = recipe(captions(tmp_path, 40), "generation.adaptive={sample: 40}")
    found = plan(settings, sample=100)
    before = generator.generated
    the_run(settings, tmp_path / "run")
    assert found["images"].value == pytest.approx(generator.generated - before)


@pytest.mark.parametrize(
    "changes",
    [
        ["run.shard_size=20", "selection.top_fraction=0.5"],
        ["selection.top_fraction=1.0", "report.preview_share=0.5", "export.formats=[huggingface]"],
    ],
)
def test_the_disk_of_a_real_run_is_in_the_printed_ranges(
    tmp_path: Path, changes: list[str]
) -> None:
    few = ["generation.candidates=2", "generation.steps=1", "run.threads=1"]
    settings = Recipe.load("tiny", limit=60, overrides=[*few, *changes])
    found = plan(settings, sample=16)
    Pipeline(settings, tmp_path / "run").run("report")
    files = {path: path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file()}
    data_set = sum(n for path, n in files.items() if path.is_relative_to(tmp_path / "run/dataset"))
    for name, size in (
        ("bytes_of_run", sum(files.values()) - data_set),
        ("bytes_of_dataset", data_set),
    ):
        estimate = found[name]
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low <= size <= estimate.high
        assert estimate.value == pytest.approx(size, rel=0.25)


def test_nothing_is_left_behind(
    tmp_path: Path, temporary: Path, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = recipe(captions(tmp_path, 40))
    before = sorted(tmp_path.iterdir())
    plan(settings)
    generator.fails = 100
    with pytest.raises(TooManyFailuresError, match="fails"):
        plan(settings)
    assert list(temporary.iterdir()) == []
    assert sorted(tmp_path.iterdir()) == before


def test_some_failing_images_are_told(tmp_path: Path, generator: Generator) -> None:
    generator.fails = 10
    found = plan(recipe(captions(tmp_path, 400)), sample=40)
    notes = [note for note in found.notes if "of no use; the first: this seed fails" in note]
    assert len(notes) == 1
    assert any("the run will stop" in note for note in found.notes)


def test_no_kept_caption_is_one_clear_line(tmp_path: Path, generator: Generator) -> None:
    settings = recipe(captions(tmp_path, 40), "curation.rules.char_count={min: 1000}")
    with pytest.raises(RecipeError) as caught:
        plan(settings)
    assert str(caught.value).startswith(
        "curation keeps none of 40 sampled captions (40 fail char_count): loosen the rules"
    )
    assert generator.generated == 0


def test_unreadable_captions_are_counted(tmp_path: Path, generator: Generator) -> None:
    path = tmp_path / "captions.jsonl"
    good = [json.dumps({"caption": f"A red kite number {n}, by the sea."}) for n in range(20)]
    path.write_text("\n".join([*good, "{", "[]"]) + "\n")
    found = plan(recipe(path))
    assert found["captions_read"].value == 22
    assert found["captions_unreadable"].value == 2
    assert found["captions_kept"].value == 20
    assert any(
        "the run will stop: 2 of 22 captions are unreadable, more" in note for note in found.notes
    )
    path.write_text("bad\n[]\n")
    with pytest.raises(CaptionSourceError, match="none of 2 captions can be read; the first: "):
        plan(recipe(path))


def test_what_a_sample_cannot_tell_is_named(tmp_path: Path, generator: Generator) -> None:
    changes = [
        "curation.near_duplicates={}",
        "curation.concepts={cap: 1, concepts: [kite]}",
        "selection.min_scores={clip_score: 0.3}",
    ]
    found = plan(recipe(captions(tmp_path, 40), *changes))
    notes = "\n".join(found.notes)
    assert "curation.near_duplicates, curation.concepts" in notes
    assert "selection.min_scores" in notes
    # Not applied to the sample either: each concept would have kept a single caption.
    assert found["captions_kept"].value == 32


def test_captions_that_a_model_writes_are_refused(tmp_path: Path) -> None:
    writer = "{model: m, captions_per_concept: 2, endpoint: {url: 'http://localhost:1/v1'}}"
    settings = recipe(captions(tmp_path, 5), f"sources.0.concept_writer={writer}")
    with pytest.raises(RecipeError, match="a model writes the captions of source 'captions'"):
        plan(settings)


def test_the_way_around_captions_that_a_model_writes(tmp_path: Path, generator: Generator) -> None:
    Pipeline(recipe(captions(tmp_path, 40)), tmp_path / "run").run("curate")
    curated = recipe(tmp_path / "run/captions/*.parquet", "sources.0.text_field=text_raw")
    assert plan(curated)["captions_kept"].value == 32


def test_rules_with_models_are_applied_and_timed(tmp_path: Path, generator: Generator) -> None:
    random = np.random.default_rng(0)
    lines = []
    for number in range(12):
        pixels = random.integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        colour = ("red", "blue", "green", "black")[number % 4]
        line = {"caption": f"a large {colour} star, number {number}", "file": f"{number}.png"}
        lines.append(json.dumps(line))
    (tmp_path / "11.png").write_bytes(b"no image")
    path = tmp_path / "captions.jsonl"
    path.write_text("\n".join(lines) + "\n")
    changes = ["sources.0.image_field=file", "run.max_failed_share=0.1"]
    rule = "curation.rules.clip_similarity={{model: tiny, min: {}}}"
    Pipeline(recipe(path, rule.format(-1), *changes), tmp_path / "run").run("curate")
    table = pq.read_table(tmp_path / "run/captions")["clip_similarity"]
    bound = rule.format(np.median(table.drop_null().to_numpy()))
    settings = recipe(path, bound, *changes)
    truth = the_run(settings, tmp_path / "run")
    found = plan(settings)
    # Half pass, and the image that is none can be measured neither here nor there.
    assert truth["kept"] == 6
    assert truth["unmeasured"] == 1
    assert found["captions_kept"].value == truth["kept"]
    rules, seconds = found["hours_of_rules"].value, found["seconds_per_image"].value
    assert rules > 0
    assert found["hours"].value == pytest.approx(rules + truth["kept"] * 3 * seconds / 3600)


def test_the_command_on_the_embedded_models(temporary: Path) -> None:
    arguments = ["plan", "tiny", "--set", "run.threads=1", "--sample", "6"]
    found = CliRunner().invoke(app, [*arguments, "--price-per-hour", "2", "--gpus", "2", "--json"])
    assert found.exit_code == 0, found.output
    values = json.loads(found.stdout)
    assert values["device"] == "cpu" or values["device"].startswith(("cuda", "mps"))
    assert values["estimates"]["captions_read"]["value"] == 155
    assert values["estimates"]["hours"]["low"] <= values["estimates"]["hours"]["high"]
    text = CliRunner().invoke(app, arguments).stdout.splitlines()
    table = text[text.index("") - 9 : text.index("")]
    assert [line[:14].strip() for line in table][1] == "captions read"
    assert len({len(line) for line in table}) == 1
    assert list(temporary.iterdir()) == []


def test_a_line_that_is_not_there() -> None:
    with pytest.raises(StopIteration):
        Plan("cpu", (), ())["cost"]
