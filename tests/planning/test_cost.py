"""Seconds per usable pair on two routes, on models that take known times."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fake_models import FakeGenerator, use_models
from fake_time import FakeTime
from random_llava import save_llava
from synthvlm import Recipe
from synthvlm.errors import CaptionSourceError, ModelError, RecipeError
from synthvlm.estimates import Estimate
from synthvlm.generators.base import GeneratedImages
from synthvlm.planning.cost import cost, ratio_of
from synthvlm.planning.cost_routes import captioning_cost, read_images
from synthvlm.progress.display import SilentProgress
from synthvlm.run_folder.storage import Clock

IMAGE_S = 0.01
ALL = "selection.top_fraction=null"


class Generator(FakeGenerator):
    """Takes its time: a long one at first, as a model that is loaded."""

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        time.sleep(IMAGE_S * len(prompts) if self.generated else 0.5)
        return super().generate(prompts, seeds)


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> Generator:
    generator = Generator()
    use_models(monkeypatch, generator)
    return generator


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llava(tmp_path_factory.mktemp("captioner") / "llava")


def recipe(folder: Path, *changes: str) -> Recipe:
    path = folder / "captions.txt"
    path.write_text("".join(f"A red kite number {n}, by the sea.\n" for n in range(40)))
    overrides = [
        "curation.rules.special_char_ratio=null",
        "run.threads=1",
        "run.batch_size=8",
        "generation.candidates=2",
        *changes,
    ]
    return Recipe.load("tiny", captions=[path], overrides=overrides)


def measured(settings: Recipe, captioner: Path, **options: Any) -> dict[str, Any]:
    options = {"pairs": 16, "batch_size": 4, "max_new_tokens": 3} | options
    found = cost(settings, str(captioner), progress=SilentProgress(), **options)
    values: dict[str, Any] = json.loads(json.dumps(found.values()))
    return values


def test_a_usable_pair_takes_its_candidates_and_those_not_selected(
    tmp_path: Path, generator: Generator, captioner: Path
) -> None:
    found = measured(recipe(tmp_path, "selection.top_fraction=0.25"), captioner)
    values = {name: one["value"] for name, one in found["estimates"].items()}
    assert values["images_per_caption"] == 2
    assert values["captions_per_pair"] == 4
    assert values["image_seconds"] >= IMAGE_S
    assert values["route_seconds"] == pytest.approx(8 * values["image_seconds"])
    assert values["ratio"] == pytest.approx(values["route_seconds"] / values["captioning_seconds"])
    low, high = (found["estimates"]["route_seconds"][end] for end in ("low", "high"))
    assert low < values["route_seconds"] < high
    # The first batch slept half a second; loading is counted apart.
    assert found["once"]["generation"] > 0
    assert found["device"] == "cpu"


def test_lowest_scores_and_a_number_of_pairs_are_selections_too(
    tmp_path: Path, generator: Generator, captioner: Path
) -> None:
    all_pairs = measured(recipe(tmp_path, ALL), captioner)["estimates"]["captions_per_pair"]
    assert all_pairs == {"value": 1, "low": 1, "high": pytest.approx(1, abs=0.25), "unit": ""}
    few = measured(recipe(tmp_path, ALL, "selection.top_n=10"), captioner)
    assert few["estimates"]["captions_per_pair"]["value"] == pytest.approx(4)
    with pytest.raises(RecipeError, match="none of 16 generated pairs reaches"):
        measured(recipe(tmp_path, "selection.min_scores.score=9.0"), captioner)
    with pytest.raises(RecipeError, match="none of 16 generated pairs reaches"):
        measured(recipe(tmp_path, "selection.min_scores.clip_score=9.0"), captioner)


def test_the_whole_command_on_the_tiny_models(tmp_path: Path, captioner: Path) -> None:
    folder = tmp_path / "photos/some"
    folder.mkdir(parents=True)
    for number in range(9):
        Image.new("RGB", (40, 30), (20 * number, 90, 90)).save(folder / f"{number}.png")
    (folder / "5.png").write_bytes(b"no image")
    os.mkfifo(folder / "0-pipe.png")  # not waited for
    settings = Recipe.load("tiny", overrides=["run.threads=1", "generation.steps=2"])
    trained = tmp_path / "trained"  # as `synthvlm train` leaves it
    trained.mkdir()
    (trained / "model").symlink_to(captioner)
    text = cost(
        settings,
        str(trained),
        images=str(tmp_path / "photos"),
        pairs=8,
        batch_size=3,
        max_new_tokens=3,
        progress=SilentProgress(),
    ).text()
    assert "device seconds on cpu, " in text
    assert "ratio, generated / captioned" in text
    assert "2 batches of 3 captioned" in text
    assert f"2 images were not usable; the first: {folder}/0-pipe.png" in text
    assert "must exist already" in text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the measurement of captioning takes for the time."""
    clock = FakeTime().clock
    monkeypatch.setattr("synthvlm.planning.cost_routes.time", clock)
    return clock


def timed(clock: Clock, seconds: Callable[[int], float], caption: str = "A dog.") -> Any:
    """A cost of captioning 10 images by two, each batch taking a time by its number."""
    calls = 0

    def load() -> Callable[[Sequence[Image.Image]], Sequence[str]]:
        clock.sleep(0.5)

        def write(images: Sequence[Image.Image]) -> list[str]:
            nonlocal calls
            clock.sleep(seconds(calls))
            calls += 1
            return [caption if number else "A cat." for number, _ in enumerate(images)]

        return write

    images = [Image.new("RGB", (8, 8))] * 10
    return captioning_cost(load, images, batch_size=2, progress=SilentProgress())


def test_loading_and_the_first_batch_are_apart(clock: Clock) -> None:
    found = timed(clock, lambda call: 2.0 if call == 0 else 0.2 + 0.02 * (call - 3))
    assert found.timed == (5, 2)
    assert found.image_seconds.value == pytest.approx(0.1)
    # Student's t of five laps: 2.776 standard errors, of 0.01 * sqrt(2.5 / 5).
    assert found.image_seconds.high == pytest.approx(0.1 + 2.776 * 0.01 * 0.5**0.5, abs=1e-4)
    # Loading, and what the first batch took more than others.
    assert found.once == pytest.approx(0.5 + 2.0 - 0.2)
    assert found.seconds.value == found.image_seconds.value
    # All of ten captions are written; of endlessly many, perhaps fewer (Wilson: 0.72).
    assert found.written.low == pytest.approx(0.722, abs=0.001)
    assert found.seconds.high == pytest.approx(found.image_seconds.high / found.written.low)


def test_an_empty_caption_is_no_pair(clock: Clock) -> None:
    found = timed(clock, lambda call: 0.01, caption=" ")
    assert found.written.value == 0.5
    assert found.seconds.value == pytest.approx(2 * found.image_seconds.value)


def test_a_ratio_has_the_ends_of_its_ends() -> None:
    assert ratio_of(Estimate(2, 1, 3), Estimate(4, 2, 5)) == Estimate(0.5, 0.2, 1.5)
    assert ratio_of(Estimate(2, None, None), Estimate(4, 2, 5)) == Estimate(0.5, None, None)
    assert ratio_of(Estimate(2, 1, 3), Estimate(4, 0, 8)).high is None


def test_what_cannot_be_captioned_is_one_line(
    tmp_path: Path, generator: Generator, clip_folder: Path
) -> None:
    with pytest.raises(CaptionSourceError, match="no such folder"):
        read_images(str(tmp_path / "absent"), 3)
    with pytest.raises(CaptionSourceError, match=r"no usable \.jpg"):
        read_images(str(tmp_path), 3)
    with pytest.raises(ModelError, match=r"absent|cannot"):
        measured(recipe(tmp_path), tmp_path / "absent")
    assert generator.generated == 0
    with pytest.raises(ModelError, match="of the kind clip, which answers no questions"):
        measured(recipe(tmp_path), clip_folder)
    (tmp_path / "training.yaml").write_text("stage: pretrain\n")
    with pytest.raises(ModelError, match="has no model yet: the same `synthvlm train` command"):
        measured(recipe(tmp_path), tmp_path)
    assert generator.generated == 0
