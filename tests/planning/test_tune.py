"""Grid searches whose outcome is known beforehand."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from scipy import stats
from typer.testing import CliRunner

from fake_models import FakeClip, FakeGenerator, fake_scorers
from synthvlm import Pipeline, Recipe
from synthvlm.cli import app
from synthvlm.errors import GenerationError, OutOfMemoryError, RecipeError, RunFolderError
from synthvlm.generators.base import GeneratedImages
from synthvlm.planning.combinations import Combination, Tuning, generation_seconds
from synthvlm.planning.tune import parse_grid, tune
from synthvlm.run_folder.folder import RunFolder
from synthvlm.scorers.base import Scores
from synthvlm.stages.generation.models import Models


class Studio:
    """Generators whose images are the brighter, and the slower, the more steps they take."""

    reproducible = True

    def __init__(self) -> None:
        self.generated: Counter[tuple[Any, ...]] = Counter()
        self.stop_at: tuple[Any, ...] | None = None
        self.slow_s = 0.0
        self.seeds: dict[tuple[Any, ...], set[tuple[str, int]]] = {}

    def load(self, recipe: Recipe) -> Models:
        generator = _Generator(self, recipe)
        return Models(generator, fake_scorers(BrightnessClip()))


class _Generator(FakeGenerator):
    def __init__(self, studio: Studio, recipe: Recipe) -> None:
        settings = recipe.generation
        self._studio = studio
        self._key = (settings.steps, settings.guidance_scale)

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        steps, guidance = self._key
        studio = self._studio
        if guidance == 99:
            raise OutOfMemoryError(f"no memory for {len(prompts)} images")
        if guidance == 98:
            raise ValueError("no such scheduler")
        if guidance == 97 and any(seed % 3 == 0 for seed in seeds):
            raise GenerationError("this seed fails")
        if self._key == studio.stop_at and studio.generated[self._key]:
            raise KeyboardInterrupt
        time.sleep(studio.slow_s * steps * len(prompts))
        studio.generated[self._key] += len(prompts)
        studio.seeds.setdefault(self._key, set()).update(zip(prompts, seeds, strict=True))
        # The noise is the caption's own, so that differences are free of it.
        bright = [min(255, 10 * steps + seed % 97) for seed in seeds]
        pixels = torch.zeros(len(prompts), 3, 16, 16, dtype=torch.uint8)
        pixels += torch.tensor(bright, dtype=torch.uint8)[:, None, None, None]
        pixels[:, 0, :, :8], pixels[:, 0, :, 8:] = 0, 255  # an image of one colour is refused
        return GeneratedImages(pixels, (None,) * len(prompts))


class BrightnessClip(FakeClip):
    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        scores = super().score(images, captions)
        values = images[:, 1].float().mean((1, 2)).numpy() / 255
        embeddings = (scores.image_embeddings, scores.text_embeddings, scores.truncated)
        return Scores(values.astype(np.float64), *embeddings)


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> Studio:
    studio = Studio()
    monkeypatch.setattr(Models, "load", classmethod(lambda cls, recipe: studio.load(recipe)))
    return studio


def recipe(folder: Path, *changes: str, count: int = 60) -> Recipe:
    file = folder / "captions.txt"
    lines = [
        f"A red kite number {n} flies over the green hill, near the sea." for n in range(count)
    ]
    file.write_text("\n".join([*lines, "No."]) + "\n")
    weights = ["scoring.ssim.weight=0", "curation.rules.special_char_ratio=null"]
    changes = ("run.threads=1", "curation.rules.word_count={min: 5}", *weights, *changes)
    return Recipe.load("tiny", captions=[file], overrides=changes)


STEPS = {"generation.steps": [2, 9, 5]}


def test_the_best_combination_is_first(tmp_path: Path, studio: Studio) -> None:
    found = tune(recipe(tmp_path), STEPS, str(tmp_path / "out"), sample=20)
    assert [one.settings["generation.steps"] for one in found.combinations] == [9, 5, 2]
    assert found.captions == 20
    assert set(studio.generated.values()) == {20}
    # The same captions and seeds for all.
    assert len({frozenset(pairs) for pairs in studio.seeds.values()}) == 1
    first, second, third = found.combinations
    assert first is found.best
    assert first.difference is None
    assert second.difference is not None
    # 40 and 70 grey levels less for every caption alike: no noise at all.
    assert second.difference.value == pytest.approx(-40 / 255)
    assert second.difference.high == pytest.approx(-40 / 255)
    assert third.difference is not None
    assert third.difference.low == pytest.approx(-70 / 255)
    assert not second.is_noise
    assert yaml.safe_load(found.yaml()) == {"generation": {"steps": 9}}
    rows = found.text().splitlines()
    assert rows[0].split()[:2] == ["steps", "score"]
    assert rows[1].endswith("best")


def test_intervals_are_over_captions_and_paired(tmp_path: Path, studio: Studio) -> None:
    grid = {"generation.steps": [9], "generation.guidance_scale": [1, 2]}
    settings = recipe(tmp_path, "generation.negative_prompt=null")
    found = tune(settings, grid, str(tmp_path / "out"), sample=20)
    best = found.combinations[0]
    rows = RunFolder(tmp_path / "out" / best.folder)
    files = sorted(name for name in rows.listing("candidates"))
    table = [row for name in files for row in rows.read_table(name).to_pylist()]
    values = [row["clip_score"] for row in table]
    low, high = stats.t.interval(0.95, 19, np.mean(values), stats.sem(values))
    clip = best.scorers["clip"]
    assert (clip.low, clip.high) == pytest.approx((low, high))
    # Guidance changes nothing here, and the table says that it may be noise.
    twin = found.combinations[1]
    assert twin.settings["generation.steps"] == 9
    assert twin.is_noise
    assert "may be noise" in found.text().splitlines()[2]


def test_a_caption_counts_with_the_mean_of_its_candidates(tmp_path: Path, studio: Studio) -> None:
    found = tune(recipe(tmp_path), STEPS, str(tmp_path / "out"), sample=10, candidates=3)
    assert set(studio.generated.values()) == {30}
    best = found.combinations[0]
    expected = [min(255, 90 + seed % 97) / 255 for _, seed in studio.seeds[9, 2.0]]
    assert best.score is not None
    assert best.score.value == pytest.approx(np.mean(expected))
    assert len(best.scores) == 10


def test_a_killed_search_goes_on_and_draws_nothing_twice(tmp_path: Path, studio: Studio) -> None:
    settings, out, grid = recipe(tmp_path), str(tmp_path / "out"), {"generation.steps": [2, 9]}
    studio.stop_at = (9, 2.0)
    with pytest.raises(KeyboardInterrupt):
        tune(settings, grid, out, sample=20)
    assert studio.generated[2, 2.0] == 20
    assert 0 < studio.generated[9, 2.0] < 20
    assert not (tmp_path / "out/tune.json").exists()
    begun = studio.generated[9, 2.0]
    studio.stop_at = None
    resumed = tune(settings, grid, out, sample=20)
    assert studio.generated[2, 2.0] == 20
    # Shards are batches; one that the kill found uncommitted is generated once more.
    assert studio.generated[9, 2.0] - begun <= 20
    assert len(resumed.combinations[0].scores) == 20
    before = studio.generated.total()
    assert tune(settings, grid, out, sample=20).values() == resumed.values()
    assert studio.generated.total() == before


def test_a_larger_sample_draws_the_newcomers_alone(tmp_path: Path, studio: Studio) -> None:
    settings, out = recipe(tmp_path), str(tmp_path / "out")
    grid = {"generation.steps": [2]}
    tune(settings, grid, out, sample=16)
    tune(settings, grid, out, sample=32)
    assert set(studio.generated.values()) == {32}


def test_combinations_that_fail_stop_no_others(tmp_path: Path, studio: Studio) -> None:
    grid, out = {"generation.guidance_scale": [99, 98, 97, 2]}, str(tmp_path / "out")
    found = tune(recipe(tmp_path), grid, out, sample=16)
    rows = {one.settings["generation.guidance_scale"]: one for one in found.combinations}
    assert found.best is rows[2]
    assert rows[98].problem == "generator 'fake' failed: ValueError: no such scheduler"
    assert rows[99].problem is not None
    assert rows[99].problem.startswith("no image can be made or scored, not even of ")
    assert "no memory for 1 images" in rows[99].problem
    # Captions that are left of some are no fair sample.
    assert rows[97].problem is not None
    assert rows[97].problem.startswith("4 of 16 images have no score")
    assert rows[97].score is None
    assert "ValueError: no such scheduler" in found.text()
    kept = json.loads((tmp_path / "out/tune.json").read_text("utf-8"))
    assert kept == json.loads(json.dumps(found.values()))
    # What failed is tried again, and the rest left alone.
    tune(recipe(tmp_path), grid, out, sample=16)
    assert studio.generated[3, 2] == 16


def test_all_images_are_compared_by_all_scorers(tmp_path: Path, studio: Studio) -> None:
    """One that a run would reject, not make, or that a scorer would not see, counts too."""
    changes = ["scoring.clip.minimum=2", "scoring.ssim.only_best=1"]
    changes += ["selection.top_fraction=null", "target={pairs: 5, max_images: 60}"]
    found = tune(
        recipe(tmp_path, *changes), {"generation.steps": [5]}, str(tmp_path / "out"), sample=8
    )
    (combination,) = found.combinations
    assert (combination.problem, combination.failed) == (None, 0)
    assert set(combination.scorers) == {"clip", "ssim"}
    assert sum(studio.generated.values()) == 8


def test_few_failing_images_are_told(tmp_path: Path, studio: Studio) -> None:
    allowed = recipe(tmp_path, "run.max_failed_share=0.5")
    grid = {"generation.guidance_scale": [97, 2]}
    found = tune(allowed, grid, str(tmp_path / "out"), sample=16)
    some, whole = found.combinations if found.combinations[0].failed else found.combinations[::-1]
    assert (some.failed, whole.failed) == (4, 0)
    assert (len(some.scores), len(whole.scores)) == (12, 16)
    assert "4 images without a score" in found.text()
    # Only captions that both have: the same images, so no difference at all.
    gap = found.combinations[1].difference
    assert gap is not None
    assert gap.value == 0


def test_score_per_second_prefers_the_quick(tmp_path: Path, studio: Studio) -> None:
    studio.slow_s = 0.001
    grid = {"generation.steps": [1, 20]}
    settings = recipe(tmp_path)
    found = tune(settings, grid, str(tmp_path / "out"), sample=24, by="score-per-second")
    assert [one.settings["generation.steps"] for one in found.combinations] == [1, 20]
    quick, slow = found.combinations
    assert slow.difference is not None
    assert slow.difference.value > 0
    assert slow.seconds_per_image is not None
    assert 0.02 <= slow.seconds_per_image < 0.1
    assert quick.score is not None
    assert quick.score_per_second == quick.score.value / quick.seconds_per_image  # type: ignore[operator]
    same = tune(settings, grid, str(tmp_path / "out"), sample=24)
    assert [one.settings["generation.steps"] for one in same.combinations] == [20, 1]


def shard(images: int, seconds: float, stage: str = "generate") -> dict[str, Any]:
    return {"event": "shard", "stage": stage, "generated": images, "generation_seconds": seconds}


RUN = {"event": "run"}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([RUN, shard(8, 90), shard(8, 8), shard(8, 16), shard(2, 9)], 1.5),
        ([RUN, shard(8, 90), shard(8, 8), RUN, shard(8, 70), shard(8, 24)], 2.0),
        ([RUN, shard(8, 90), RUN, shard(0, 0), shard(8, 80), shard(8, 8)], 1.0),
        ([RUN, shard(4, 8, "calibrate"), shard(8, 16)], 2.0),  # one shard alone is all there is
        ([RUN], None),
    ],
)
def test_times_leave_out_what_warms_up(
    events: list[dict[str, Any]], expected: float | None
) -> None:
    assert generation_seconds(events) == expected


def test_events_of_older_runs_have_the_time_under_another_name() -> None:
    event = shard(10, 2.5)
    event["drawing_s"] = event.pop("generation_seconds")
    assert generation_seconds([{"event": "run"}, event]) == 0.25


def test_a_grid_is_yaml() -> None:
    grid = parse_grid(
        ["generation.steps=20,40", "generation.negative_prompt=null,'a, b'", "generation.x=1e-3"]
    )
    assert grid == {
        "generation.steps": [20, 40],
        "generation.negative_prompt": [None, "a, b"],
        "generation.x": [0.001],
    }


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "nothing to tune"),
        (["generation.steps"], "expected KEY=VALUE,VALUE"),
        (["generation.steps="], "expected KEY=VALUE,VALUE"),
        (["generation=1"], "generation is none to tune"),
        (["steps=1,3"], "did you mean --grid generation.steps=1,3?"),
        (["guidance_scale=5,7.5"], "did you mean --grid generation.guidance_scale=5,7.5?"),
        (["refiner.start=0.7,0.8"], "did you mean --grid generation.refiner.start=0.7,0.8?"),
        (["gen.steps=1,3"], "did you mean --grid generation.steps=1,3?"),
        (["step=1,3"], "did you mean --grid generation.steps=1,3?"),
        (["scoring.clip.weight=1,2"], "scoring.clip.weight is none to tune"),
        (["generation.candidates=1,2"], "generation.candidates is none to tune"),
        (["generation.adaptive.threshold=1"], "is none to tune"),
        (["generation.steps=1", "generation.steps=2"], "given twice: name all its values"),
        (["generation.steps=1,1"], "a value is given twice"),
        (["generation.steps=[1"], "recipe --grid generation.steps=[1"),
    ],
)
def test_bad_grids_are_one_line(texts: list[str], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_grid(texts)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("generation.stepz", [1], "generation.stepz"),
        ("generation.steps", [4, "many"], "generation.steps"),
    ],
)
def test_combinations_are_validated_before_one_is_tried(
    tmp_path: Path, studio: Studio, key: str, values: list[Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        tune(recipe(tmp_path), {key: values}, str(tmp_path / "out"))
    assert not studio.generated
    assert not (tmp_path / "out").exists()


def test_a_run_of_the_user_is_not_touched(tmp_path: Path, studio: Studio) -> None:
    settings = recipe(tmp_path)
    Pipeline(settings, tmp_path / "run").run("curate")
    before = sorted(path.relative_to(tmp_path) for path in (tmp_path / "run").rglob("*"))
    with pytest.raises(
        RunFolderError, match=r"not a folder of `synthvlm tune`: it holds 'captions'"
    ):
        tune(settings, STEPS, str(tmp_path / "run"))
    assert sorted(path.relative_to(tmp_path) for path in (tmp_path / "run").rglob("*")) == before


def test_fewer_captions_than_wanted_are_told(tmp_path: Path, studio: Studio) -> None:
    found = tune(
        recipe(tmp_path, count=7), {"generation.steps": [2]}, str(tmp_path / "out"), sample=20
    )
    assert found.captions == 7


def test_a_sample_is_found_where_few_captions_are_kept(tmp_path: Path, studio: Studio) -> None:
    # The last 200 of 1,200 captions are one character longer.
    few = recipe(tmp_path, "curation.rules.char_count={min: 63}", count=1200)
    found = tune(few, {"generation.steps": [2]}, str(tmp_path / "out"), sample=20)
    assert found.captions == 20
    kept = pq.read_table(tmp_path / "out/kept.parquet")["caption"].to_pylist()
    assert all(len(text) == 63 for text in kept)


def test_what_is_not_known_is_a_dash() -> None:
    one = Combination({"generation.steps": 1}, "runs/x", problem="broken")
    text = Tuning("score", 3, 1, 0, (one,)).text()
    assert "failed: broken" in text
    assert Tuning("score", 3, 1, 0, (one,)).yaml() == ""


def test_the_command_on_the_embedded_models(tmp_path: Path) -> None:
    out = tmp_path / "a [b]"
    command = ["tune", "tiny", "--set", "run.threads=1", "--sample", "8", "--out", str(out)]
    found = CliRunner().invoke(app, [*command, "--grid", "generation.steps=1,6"])
    assert found.exit_code == 0, found.output
    lines = found.stdout.splitlines()
    # A single step makes no image; six do.
    assert lines[-2:] == ["generation:", "  steps: 6"]
    assert json.loads((out / "tune.json").read_text("utf-8"))["captions"] == 8
    bad = CliRunner().invoke(app, [*command, "--grid", "scoring.clip.weight=1,2"])
    assert bad.exit_code == 1
    assert bad.stderr.startswith("error: --grid scoring.clip.weight=1,2: ")
