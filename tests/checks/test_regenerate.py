"""`synthvlm regenerate`: an image made again from its row is the one that was kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from commands import run as command
from fake_models import (
    FakeClip,
    FakeGenerator,
    FakeSsim,
    load_fake_models,
    run_with,
    use_fake_models,
)
from synthvlm import Pipeline, Recipe
from synthvlm.checks.regenerate import regenerate
from synthvlm.data import file_stem
from synthvlm.errors import GenerationError, SynthVLMError
from synthvlm.generators.base import GeneratedImages
from synthvlm.run.kept_recipe import open_folder
from synthvlm.stages.generation.models import Models
from synthvlm.stages.generation.pixels import decode

CAPTIONS = [f"A red kite number {n} flies over the green hill, near the sea." for n in range(12)]
SETTINGS = [
    "run.shard_size=5",
    "run.threads=1",
    "curation.rules.special_char_ratio=null",
    "generation.candidates=3",
    "report.preview_share=1.0",
]


def make(out: Path, *changes: str, models: Models | None = None) -> Path:
    file = out.parent / "captions.txt"
    file.write_text("\n".join([*CAPTIONS, CAPTIONS[0], "!!!!"]) + "\n")
    recipe = Recipe.load("tiny", captions=[file], overrides=[*SETTINGS, *changes])
    load = load_fake_models if models is None else lambda _: models
    run_with(recipe, out, load, "generate")
    return out


def again(out: Path, id: str, **options: Any) -> Any:
    options.setdefault("load_models", load_fake_models)
    return regenerate(*open_folder(str(out)), id, **options)


def rows_of(out: Path, folder: str = "candidates") -> list[dict[str, Any]]:
    files = sorted((out / folder).glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("regeneration") / "run")


def test_the_embedded_models_draw_every_candidate_again(tmp_path: Path) -> None:
    changes = ["report.preview_share=1.0", "run.threads=1", "run.shard_size=2"]
    recipe = Recipe.load("tiny", limit=4, overrides=changes)
    pipeline = Pipeline(recipe, tmp_path / "run")
    pipeline.run("generate")
    models = Models.load(pipeline.recipe)
    ids = dict.fromkeys(row["caption_id"] for row in rows_of(tmp_path / "run"))
    compared = thumbnails = 0
    for id in list(ids)[::2]:
        made = again(tmp_path / "run", id, every=True, load_models=lambda _: models)
        assert made.is_same
        for candidate in made.candidates:
            assert set(candidate.scores) == {"clip_score", "ssim_score", "score"}
            # Drawn one by one, not in batches of eight: equal but for rounding.
            assert candidate.largest_score < 1e-4
            if candidate.image is not None:
                compared += 1
                assert candidate.chosen
                assert candidate.image.largest <= 1
            if candidate.thumbnail is not None:
                thumbnails += 1
                assert not candidate.chosen
        assert len(made.candidates) == 4
    assert compared == (len(ids) + 1) // 2
    assert thumbnails == 3 * compared


@pytest.mark.parametrize(
    ("format", "encoding"),
    [
        ("{format: png}", "png"),
        ("{format: jpeg}", "jpeg-95"),
        ("{format: jpeg, quality: 60}", "jpeg-60"),
        ("{format: webp, quality: 40}", "webp-40"),
    ],
)
def test_winners_of_every_format_are_the_same_bit_for_bit(
    tmp_path: Path, format: str, encoding: str
) -> None:
    out = make(tmp_path / "run", f"generation.image={format}")
    made = again(out, "captions-7")
    [winner] = made.candidates
    assert winner.chosen
    assert winner.image.is_identical
    assert (winner.image.largest, winner.image.share) == (0, 0.0)
    assert winner.image.encoding == encoding
    assert winner.largest_score == 0.0
    assert "identical to the stored one; its scores are equal" in made.text()


def test_losers_are_compared_by_scores_and_thumbnails(run: Path, tmp_path: Path) -> None:
    made = again(run, "captions-3", every=True, to=str(tmp_path / "images"))
    assert [candidate.index for candidate in made.candidates] == [0, 1, 2]
    assert sum(candidate.chosen for candidate in made.candidates) == 1
    for candidate in made.candidates:
        assert (candidate.image is None) != candidate.chosen
        assert (candidate.thumbnail is None) == candidate.chosen
        assert candidate.is_same
        assert candidate.file == str(
            tmp_path / "images" / f"{file_stem('captions-3')}-{candidate.index}.png"
        )
    winner = next(c for c in made.candidates if c.chosen)
    stored = next(r for r in rows_of(run, "pairs") if r["caption_id"] == "captions-3")
    with Image.open(str(winner.file)) as image:
        assert np.array_equal(np.asarray(image), decode(stored["image"]))
    one = again(run, "captions-3", index=2)
    assert [candidate.index for candidate in one.candidates] == [2]


class Shifted(FakeGenerator):
    """Draws the same pixels, some of them brighter or darker."""

    def __init__(self, levels: int) -> None:
        self._levels = levels

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        images = super().generate(prompts, seeds)
        pixels = images.pixels.to(torch.int16)
        pixels[:, :, 0] += torch.where(pixels[:, :, 0] < 128, self._levels, -self._levels)
        return GeneratedImages(pixels.to(torch.uint8), images.problems)


class Lenient(FakeClip):
    """Scores that depend on the caption alone."""

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Any:
        return super().score(torch.zeros_like(images), captions)


def use_other_models() -> None:
    models = Models(FakeGenerator(), {"clip": Lenient(), "ssim": FakeSsim()})
    Models.load = classmethod(lambda cls, recipe: models)  # type: ignore[assignment]


class Steady(FakeSsim):
    """One score for all images."""

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Any:
        return super().score(torch.zeros_like(images), captions)


@pytest.mark.parametrize(("levels", "is_same"), [(0, True), (2, True), (3, False)])
def test_what_differs_by_more_than_rounding_is_not_the_same(
    tmp_path: Path, levels: int, is_same: bool
) -> None:
    models = [Models(Shifted(n), {"clip": Lenient(), "ssim": Steady()}) for n in (0, levels)]
    out = make(tmp_path / "run", models=models[0])
    made = again(out, "captions-7", load_models=lambda _: models[1])
    [winner] = made.candidates
    assert winner.image.largest == levels
    assert winner.image.share == pytest.approx(1 / 16 if levels else 0)
    assert made.is_same == is_same


def test_other_scores_are_not_the_same(run: Path) -> None:
    models = Models(FakeGenerator(), {"clip": Lenient(), "ssim": FakeSsim()})
    made = again(run, "captions-7", load_models=lambda _: models)
    assert made.candidates[0].image.is_identical
    assert made.candidates[0].largest_score > 0.001
    assert not made.is_same


def test_a_lossy_encoder_may_make_more_of_rounding_and_no_more(tmp_path: Path) -> None:
    models = [Models(Shifted(n), {"clip": Lenient(), "ssim": Steady()}) for n in (0, 1, 60)]
    out = make(tmp_path / "run", "generation.image={format: jpeg, quality: 90}", models=models[0])
    near = again(out, "captions-7", load_models=lambda _: models[1])
    assert near.candidates[0].image.largest > 2
    assert near.is_same
    assert not again(out, "captions-7", load_models=lambda _: models[2]).is_same


def test_what_is_not_reproducible_or_of_another_recipe_is_told(tmp_path: Path) -> None:
    class Unseeded(FakeGenerator):
        reproducible = False

    models = Models(Unseeded(), {"clip": FakeClip(), "ssim": FakeSsim()})
    out = make(tmp_path / "run", models=models)
    told = again(out, "captions-7", load_models=lambda _: models).text()
    assert "its seed does not determine the image" in told
    folder, recipe = open_folder(str(out))
    changed = recipe.changed(overrides=["generation.steps=7"])
    made = regenerate(folder, changed, "captions-7", load_models=load_fake_models)
    assert "another recipe, caption or models" in made.text()
    assert made.is_same


def test_a_caption_or_candidate_without_an_image_is_refused_in_a_line(
    run: Path, tmp_path: Path
) -> None:
    for id, options, message in [
        ("captions-77", {}, r"no caption with the id 'captions-77' \(similar ids: 'captions-7'"),
        ("captions-12", {}, r"rejected it \(duplicate\); it is a duplicate of 'captions-0', use"),
        ("captions-13", {}, r"rejected it \(alnum_ratio\): its measure is 0"),
        ("captions-1", {"index": 3}, r"no candidate 3: its candidates are 0 to 2"),
        ("captions-1", {"index": 1, "every": True}, r"cannot be used together"),
    ]:
        with pytest.raises(SynthVLMError, match=message):
            again(run, id, **options)
    out = make(tmp_path / "early", "generation.adaptive={threshold: 0.0}")
    with pytest.raises(
        SynthVLMError, match=r"candidate 2 .* was never generated: its caption was done"
    ):
        again(out, "captions-1", index=2)
    made = again(out, "captions-1", every=True)
    assert len(made.candidates) == 1
    assert made.skipped == (
        "candidate 1: was never generated: its caption was done before",
        "candidate 2: was never generated: its caption was done before",
    )


def test_a_candidate_that_failed_says_why(tmp_path: Path) -> None:
    class Failing(FakeGenerator):
        def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
            if any("number 3 " in prompt for prompt in prompts):
                raise GenerationError("no kites today")
            return super().generate(prompts, seeds)

    models = Models(Failing(), {"clip": FakeClip(), "ssim": FakeSsim()})
    out = make(tmp_path / "run", "run.max_failed_share=1.0", models=models)
    with pytest.raises(SynthVLMError, match=r"candidate 1 .* it failed \(no kites today\)"):
        again(out, "captions-3", index=1)
    with pytest.raises(SynthVLMError, match=r"has no winner \(candidates: 0 failed, 1 failed"):
        again(out, "captions-3")
    good = again(out, "captions-4")
    assert good.is_same
    bad = Models(FakeGenerator(), {"clip": FakeClip(), "ssim": FakeSsim()})
    whole = make(tmp_path / "whole", models=bad)
    failed = again(whole, "captions-3", load_models=lambda _: models)
    assert failed.candidates[0].problem == "no kites today"
    assert not failed.is_same


def test_what_is_lost_is_told(run: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(run, tmp_path / "run"))
    for file in (out / "pairs").glob("part-00001-*"):
        file.unlink()
    with pytest.raises(SynthVLMError, match=r"the shard of caption 'captions-7' \(1\) is not"):
        again(out, "captions-7")
    assert again(out, "captions-1").is_same


def test_the_command(run: Path, tmp_path: Path) -> None:
    words: list[str | Path] = ["regenerate", run, "--id", "captions-3"]
    made = command([*words, "--all", "--to", tmp_path / "images"], tmp_path, use_fake_models)
    assert (made.code, made.err) == (0, "")
    assert f"captions-3: {CAPTIONS[3]}" in made.out
    assert made.out.count("written to ") == 3
    assert len(list((tmp_path / "images").glob("*.png"))) == 3
    machine = command([*words, "--json"], tmp_path, use_fake_models)
    values = json.loads(machine.out)
    assert values["is_same"]
    assert values["candidates"][0]["image"]["is_identical"]
    other = command(words, tmp_path, use_other_models)
    assert other.code == 1
    assert "not the same: " in other.out
    unknown = command(["regenerate", run, "--id", "\x1b[2J"], tmp_path, use_fake_models)
    assert unknown.code == 1
    assert unknown.err.startswith("error: ")
    assert "\x1b" not in unknown.err
    nothing = command(["regenerate", tmp_path, "--id", "x"], tmp_path)
    assert "is not a run folder" in nothing.err
