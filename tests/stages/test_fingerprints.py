"""What images depend on: whatever changes their pixels or scores changes their fingerprint."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from synthvlm.recipe import Recipe
from synthvlm.stages.fingerprints import (
    candidate_fingerprint,
    image_dependencies,
    image_fingerprint,
    shard_fingerprint,
)
from synthvlm.stages.generation.requests import Prompt


def recipe(*changes: str) -> Recipe:
    return Recipe.load("tiny", overrides=["generation.dtype=float32", *changes])


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ("seed=8", "the seed"),
        ("generation.steps=21", "the generator, its model or its settings"),
        ("generation.negative_prompt=fog", "the generator, its model or its settings"),
        ("generation.safety={model: tiny}", "the generator, its model or its settings"),
        ("scoring.clip.prefix=''", "the scorer clip"),
        ("scoring.clip.prefix=A photo of ", "the scorer clip"),
        ("scoring.ssim.side=128", "the scorer ssim"),
        ("scoring.ssim.model_input_side=56", "the scorer ssim"),
        ("scoring.siglip={model: org/siglip}", "the scorer siglip"),
        ("scoring.ssim=null", "the scorer ssim"),
        ("scoring.clip=null", "the scorer clip"),
    ],
)
def test_every_image_depends_on_seed_generator_and_scorers(change: str, part: str) -> None:
    before, after = recipe(), recipe(change)
    assert image_fingerprint(before) != image_fingerprint(after)
    old, new = image_dependencies(before), image_dependencies(after)
    assert {name for name in {*old, *new} if old.get(name) != new.get(name)} == {part}


@pytest.mark.parametrize(
    "change",
    [
        "scoring.clip.weight=2.0",
        "generation.candidates=9",
        "generation.image.format=webp",
        "run.batch_size=3",
        "selection.top_fraction=0.5",
    ],
)
def test_no_image_depends_on_what_is_decided_or_done_with_it(change: str) -> None:
    assert image_fingerprint(recipe()) == image_fingerprint(recipe(change))


def test_a_candidate_depends_on_its_caption_and_a_shard_on_the_choice() -> None:
    cases = [("f", "a", "text"), ("g", "a", "text"), ("f", "b", "text"), ("f", "a", "texts")]
    assert len({candidate_fingerprint(*case) for case in cases}) == len(cases)
    one, other = Prompt("a", "text", "f"), Prompt("b", "text", "g")
    found = [
        shard_fingerprint(recipe(*changes), shared, thresholds, prompts, sample)
        for changes, shared, thresholds, prompts, sample in (
            ((), "s", None, [one], ()),
            ((), "t", None, [one], ()),
            ((), "s", (1.0,), [one], ()),
            ((), "s", (1.0,), [one], ["a"]),
            ((), "s", None, [one, other], ()),
            (("scoring.clip.weight=2.0",), "s", None, [one], ()),
            (("generation.candidates=9",), "s", None, [one], ()),
            (("generation.image.format=webp",), "s", None, [one], ()),
        )
    ]
    assert all(one != other for one, other in combinations(found, 2))


def test_a_model_at_an_endpoint_is_a_name_also_where_a_folder_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    generation = {"model": "painter", "endpoint": {"url": "http://127.0.0.1:9/v1"}}
    values = {"sources": [{"path": "captions.txt"}], "generation": generation}
    recipe = Recipe.from_values(values, "recipe.yaml")
    found = image_fingerprint(recipe)
    (tmp_path / "painter").mkdir()
    (tmp_path / "painter" / "model_index.json").write_text("{}")
    assert image_fingerprint(recipe) == found
