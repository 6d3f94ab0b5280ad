"""Dropping images part-way: what is kept is what would have been drawn without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import random_models
from synthvlm.errors import ModelError
from synthvlm.generators.base import Screen
from synthvlm.generators.diffusers import DiffusersGenerator

SETTINGS: dict[str, Any] = {
    "device": "cpu",
    "dtype": "float32",
    "steps": 5,
    "guidance_scale": 3.0,
    "height": 32,
    "width": 32,
}
PROMPTS = ["a red dog", "a red dog", "a blue cat", "a blue cat"]
SEEDS = [1, 2, 3, 4]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("models")
    return {
        "sd": random_models.save_sd(base / "sd"),
        "sdxl": random_models.save_sdxl(base / "sdxl"),
        "refiner": random_models.save_sdxl_refiner(base / "refiner"),
        "sd3": random_models.save_sd3(base / "sd3"),
    }


@pytest.mark.parametrize("kind", ["sd", "sdxl", "sdxl with refiner", "sd3"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_what_is_kept_is_what_would_have_been_drawn(
    folders: dict[str, Path], kind: str, guidance: float
) -> None:
    more = {"refiner": str(folders["refiner"])} if kind.endswith("refiner") else {}
    generator = DiffusersGenerator(
        str(folders[kind.split()[0]]),
        **{**SETTINGS, "guidance_scale": guidance},
        **more,
        screened=True,
    )
    seen: list[torch.Tensor] = []

    def keep(previews: torch.Tensor) -> list[bool]:
        seen.append(previews)
        return [True, False, False, True]

    plain = generator.generate(PROMPTS, SEEDS)
    images = generator.generate_screened(PROMPTS, SEEDS, Screen(0.4, keep))
    assert [preview.shape for preview in seen] == [(4, 3, 32, 32)]
    assert seen[0].dtype == torch.uint8
    assert images.finished == (True, False, False, True)
    difference = (images.pixels.int() - plain.pixels.int()).abs().flatten(1).amax(1)
    assert difference[0] <= 2
    assert difference[3] <= 2
    assert difference[1] > 2
    # The pipeline is as it was.
    assert torch.equal(generator.generate(PROMPTS, SEEDS).pixels, plain.pixels)


def test_the_last_preview_is_nearly_the_image(folders: dict[str, Path]) -> None:
    generator = DiffusersGenerator(str(folders["sd"]), **{**SETTINGS, "steps": 20}, screened=True)
    seen = {}
    for share in (0.1, 0.95):

        def keep(previews: torch.Tensor, share: float = share) -> list[bool]:
            seen[share] = previews
            return [True] * len(previews)

        images = generator.generate_screened(PROMPTS, SEEDS, Screen(share, keep)).pixels
    far, near = ((seen[s].float() - images.float()).abs().mean() for s in (0.1, 0.95))
    assert near < far / 2
    assert near < 10


def test_all_can_be_dropped(folders: dict[str, Path]) -> None:
    for kind, more in (("sd", {}), ("sdxl", {"refiner": str(folders["refiner"])})):
        generator = DiffusersGenerator(str(folders[kind]), **SETTINGS, **more, screened=True)
        images = generator.generate_screened(
            PROMPTS, SEEDS, Screen(0.4, lambda previews: [False] * len(previews))
        )
        assert images.finished == (False,) * 4
        assert images.problems == (None,) * 4
        assert len(images.pixels) == 4
        assert generator.generate(PROMPTS, SEEDS).finished == ()


def test_one_step_has_nothing_to_save(folders: dict[str, Path]) -> None:
    generator = DiffusersGenerator(str(folders["sd"]), **{**SETTINGS, "steps": 1}, screened=True)
    images = generator.generate_screened(PROMPTS, SEEDS, Screen(0.5, lambda p: [False] * len(p)))
    assert images.finished == (True,) * 4


def test_pipelines_and_schedulers_that_cannot_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="EulerAncestralDiscreteScheduler cannot go on"):
        DiffusersGenerator(
            str(folders["sd"]),
            **SETTINGS,
            scheduler="EulerAncestralDiscreteScheduler",
            screened=True,
        )
