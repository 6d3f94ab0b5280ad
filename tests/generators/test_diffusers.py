"""One contract for every kind of pipeline, each a small real one with random weights."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import random_models
from synthvlm.errors import GenerationError, ModelError
from synthvlm.generators.diffusers import DiffusersGenerator

SETTINGS: dict[str, Any] = {
    "device": "cpu",
    "dtype": "float32",
    "steps": 4,
    "guidance_scale": 5.0,
    "height": 32,
    "width": 32,
}
KINDS = ("sd", "sdxl", "sdxl+refiner", "sd3", "sd3-without-t5")

Make = Callable[..., DiffusersGenerator]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    base = tmp_path_factory.mktemp("models")
    folders = {
        "sd": random_models.save_sd(base / "sd"),
        "sdxl": random_models.save_sdxl(base / "sdxl"),
        "refiner": random_models.save_sdxl_refiner(base / "refiner"),
        "sd3": random_models.save_sd3(base / "sd3"),
    }

    def build(kind: str, **changes: object) -> DiffusersGenerator:
        options = {**SETTINGS, **changes}
        name, _, refined = kind.partition("+")
        name, _, dropped = name.partition("-without-")
        if refined:
            options["refiner"] = str(folders["refiner"])
        if dropped:
            options["drop_components"] = ["text_encoder_3", "tokenizer_3"]
        return DiffusersGenerator(str(folders[name]), **options)

    build.folders = folders  # type: ignore[attr-defined]
    return build


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_determined_by_prompt_and_seed_alone(make: Make, kind: str) -> None:
    generator = make(kind)
    prompts = ["a red circle", "a red circle", "a blue star"]
    together = generator.generate(prompts, [1, 2, 3])
    assert together.pixels.dtype == torch.uint8
    assert together.pixels.shape == (3, 3, 32, 32)
    assert together.problems == (None, None, None)
    assert generator.reproducible
    for row, (prompt, seed) in enumerate(zip(prompts, [1, 2, 3], strict=True)):
        alone = generator.generate([prompt], [seed]).pixels[0]
        assert (alone.int() - together.pixels[row].int()).abs().max() <= 2
    assert not torch.equal(together.pixels[0], together.pixels[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_is_encoded_once_for_all_its_candidates(
    make: Make, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = make(kind)
    encoded: list[str] = []
    for pipeline in generator._pipelines():
        original = pipeline.encode_prompt

        @functools.wraps(original)
        def spy(*args: Any, _original: Any = original, **kwargs: Any) -> Any:
            if isinstance(kwargs.get("prompt"), list):
                encoded.extend(kwargs["prompt"])
            return _original(*args, **kwargs)

        monkeypatch.setattr(pipeline, "encode_prompt", spy)
    for prompts, seeds in ((["a", "a", "a"], [1, 2, 3]), (["a", "b", "b"], [4, 5, 6])):
        generator.generate(prompts, seeds)
    copies = 2 if "+" in kind else 1
    assert sorted(encoded) == ["a"] * copies + ["b"] * copies


def test_the_prompt_and_the_negative_prompt_matter(make: Make) -> None:
    one = make("sdxl").generate(["a red circle"], [1]).pixels
    other = make("sdxl").generate(["two yellow stars"], [1]).pixels
    negative = make("sdxl", negative_prompt="blurry").generate(["a red circle"], [1]).pixels
    assert not torch.equal(one, other)
    assert not torch.equal(one, negative)


def test_the_refiner_does_the_last_steps(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = make("sdxl+refiner", steps=10, denoising_split=0.8)
    steps = {"base": 0, "refiner": 0}
    for name, pipeline in zip(steps, generator._pipelines(), strict=True):
        forward = pipeline.unet.forward

        def spy(*args: Any, _name: str = name, _forward: Any = forward, **kwargs: Any) -> Any:
            steps[_name] += 1
            return _forward(*args, **kwargs)

        monkeypatch.setattr(pipeline.unet, "forward", spy)
    generator.generate(["a red circle"], [1])
    assert steps == {"base": 8, "refiner": 2}


def test_without_guidance(make: Make) -> None:
    images = make("sdxl", guidance_scale=1.0).generate(["a", "b"], [1, 2])
    assert images.problems == (None, None)


def test_a_nan_image_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = make("sd")
    original = generator._pipeline.vae.decode

    def decode(*args: Any, **kwargs: Any) -> Any:
        (images,) = original(*args, **kwargs)
        images[1] = float("nan")
        return (images,)

    monkeypatch.setattr(generator._pipeline.vae, "decode", decode)
    images = generator.generate(["a", "b"], [1, 2])
    assert images.problems == (None, "the image holds NaN or infinity")


def test_a_failing_pipeline_is_explained(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = make("sd")

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(generator._pipeline.unet, "forward", fail)
    with pytest.raises(GenerationError, match=r"^StableDiffusionPipeline failed: out of memory$"):
        generator.generate(["a"], [1])


def test_models_that_cannot_be_used_are_refused(make: Make, tmp_path: Path) -> None:
    folders: dict[str, Path] = make.folders  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match="holds no model_index"):
        DiffusersGenerator(str(tmp_path), **SETTINGS)
    with pytest.raises(ModelError, match="not a text-to-image pipeline"):
        DiffusersGenerator(str(folders["refiner"]), **SETTINGS)
    with pytest.raises(ModelError, match="not a refiner"):
        DiffusersGenerator(str(folders["sdxl"]), refiner=str(folders["sd"]), **SETTINGS)
    with pytest.raises(ModelError, match="cannot hand over"):
        DiffusersGenerator(str(folders["sd"]), refiner=str(folders["refiner"]), **SETTINGS)
    with pytest.raises(ModelError, match="max_sequence_length"):
        DiffusersGenerator(str(folders["sd"]), max_sequence_length=512, **SETTINGS)
