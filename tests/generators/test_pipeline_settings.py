"""Schedulers, LoRAs, and what makes a denoiser smaller or faster."""

from __future__ import annotations

import importlib.util
import inspect
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from random_pipelines import save_sdxl_lora
from synthvlm.errors import MissingExtraError, ModelError, RecipeError
from synthvlm.generators.diffusers import DiffusersGenerator
from synthvlm.generators.settings import DiffusersSettings, Lora, Refiner

Folder = Callable[[str], Path]
Make = Callable[..., DiffusersGenerator]

PROMPTS = ["a red circle", "a red circle", "a blue star above two green squares"]


def differences(one: torch.Tensor, other: torch.Tensor) -> int:
    return int((one.int() - other.int()).abs().max())


def missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda wanted, *rest: None if wanted == name else find(wanted)
    )


def test_a_scheduler_is_made_from_the_settings_of_the_own_one(make: Make) -> None:
    generator = make("sdxl+refiner", steps=10, scheduler="DPMSolverMultistepScheduler")
    for pipeline in generator._pipelines():
        assert type(pipeline.scheduler).__name__ == "DPMSolverMultistepScheduler"
        assert pipeline.scheduler.config.timestep_spacing == "leading"  # as before
    assert generator.generate(["a"], [1]).problems == (None,)


def test_options_of_the_scheduler(make: Make) -> None:
    changed = make("sdxl", scheduler_options={"timestep_spacing": "trailing"})
    config = changed._pipeline.scheduler.config
    assert (config.timestep_spacing, config.steps_offset) == ("trailing", 1)
    plain = make("sdxl").generate(["a"], [1]).pixels
    assert not torch.equal(plain, changed.generate(["a"], [1]).pixels)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"scheduler": "EulerDiscretScheduler"},
            "generation.scheduler: diffusers has no EulerDiscretScheduler, did you mean "
            "'EulerDiscreteScheduler'?",
        ),
        (
            {"scheduler": "euler"},
            "generation.scheduler: diffusers has no euler (names end in Scheduler)",
        ),
        (
            {"scheduler_options": {"timestep_space": "trailing"}},
            "generation.scheduler_options.timestep_space: a EulerDiscreteScheduler has no such "
            "setting, did you mean 'timestep_spacing'?",
        ),
    ],
)
def test_schedulers_that_there_are_not(make: Make, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(RecipeError, match=f"^{re.escape(line)}$"):
        make("sdxl", **changes)


def test_noise_that_is_not_from_the_seeds_is_known(make: Make) -> None:
    options = {"stochastic_sampling": True}
    assert not make("flux", scheduler_options=options).reproducible  # its steps get no generator
    assert make("sana", scheduler_options=options).reproducible  # its steps do
    assert make("sd", scheduler="EulerAncestralDiscreteScheduler").reproducible


@pytest.fixture(scope="module")
def lora(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("peft")
    base = tmp_path_factory.mktemp("loras")
    return save_sdxl_lora(folder("sdxl"), base / "lora", "style.safetensors")


def test_loras_are_added_to_the_weights(make: Make, lora: Path) -> None:
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    plain = make("sdxl")
    weight = plain._pipeline.unet.get_submodule(name).weight
    half, whole = Lora(str(lora), "style.safetensors", scale=0.5), lora / "style.safetensors"
    fused = make("sdxl", loras=[half, Lora(str(whole))])
    found = fused._pipeline.unet.get_submodule(name)
    assert type(found) is torch.nn.Linear, "nothing of it is left for each step"
    parts = load_file(lora / "style.safetensors")
    up, down = (parts[f"unet.{name}.lora_{part}.weight"] for part in "BA")
    change = 1.5 * (4 / 2) * up @ down  # scales x alpha / rank, as save_sdxl_lora has them
    assert torch.allclose(found.weight, weight + change, atol=1e-6)
    assert change.abs().max() > 0.01
    images = [each.generate(["a"], [1]).pixels for each in (plain, fused)]
    assert not torch.equal(*images)


def test_a_lora_in_a_folder_of_its_own_needs_no_file_name(make: Make, lora: Path) -> None:
    named = make("sdxl", loras=[Lora(str(lora), "style.safetensors")])
    assert torch.equal(
        named.generate(["a"], [1]).pixels,
        make("sdxl", loras=[Lora(str(lora))]).generate(["a"], [1]).pixels,
    )


def test_loras_that_cannot_be_added(
    make: Make, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=f"^cannot load the LoRA {tmp_path}: ") as told:
        make("sdxl", loras=[Lora(str(tmp_path))])
    assert "\n" not in str(told.value)
    with pytest.raises(ModelError, match=r"^(the|cannot load the) LoRA .*"):
        make("sd3", loras=[Lora(str(lora))])
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match=r"^cannot load the LoRA .*bad\.safetensors: "):
        make("sdxl", loras=[Lora(str(tmp_path / "bad.safetensors"))])
    with pytest.raises(ModelError, match="a PixArtSigmaPipeline takes no LoRA"):
        make("pixart-sigma", loras=[Lora(str(lora))])
    missing("peft", monkeypatch)
    with pytest.raises(MissingExtraError, match=r"pip install 'synthvlm\[lora\]'$"):
        make("sdxl", loras=[Lora(str(lora))])


def linear_bytes(module: torch.nn.Module) -> int:
    return sum(
        sum(getattr(weight, name).nbytes for name in ("qdata", "scale"))
        if hasattr(weight, "qdata")
        else weight.nbytes
        for layer in module.modules()
        if isinstance(layer, torch.nn.Linear)
        for weight in [layer.weight]
    )


@pytest.mark.parametrize("quantization", ["int8", "float8"])
@pytest.mark.parametrize("kind", ["sdxl", "flux"])
def test_quantized_weights_are_smaller_and_draw_nearly_the_same(
    make: Make, kind: str, quantization: str
) -> None:
    pytest.importorskip("torchao")
    whole, small = make(kind), make(kind, quantization=quantization)
    name = "unet" if kind == "sdxl" else "transformer"
    sizes = [linear_bytes(getattr(each._pipeline, name)) for each in (whole, small)]
    assert sizes[1] < 0.4 * sizes[0]  # a quarter, and the scales
    images = [each.generate(PROMPTS, [1, 2, 3]).pixels.float() for each in (whole, small)]
    error = (images[0] - images[1]).square().mean().sqrt()
    assert 0 < error < 0.2 * images[0].std()


def test_quantization_goes_with_loras(make: Make, lora: Path) -> None:
    pytest.importorskip("torchao")
    loras = [Lora(str(lora), scale=2.0)]
    images = [
        make("sdxl", **options).generate(PROMPTS, [1, 2, 3]).pixels.float()
        for options in ({}, {"loras": loras}, {"loras": loras, "quantization": "int8"})
    ]
    errors = [(images[1] - other).square().mean().sqrt() for other in (images[0], images[2])]
    assert errors[1] < 0.5 * errors[0]


def test_quantization_without_its_extra(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    missing("torchao", monkeypatch)
    with pytest.raises(MissingExtraError, match=r"pip install 'synthvlm\[quantization\]'$"):
        make("sd", quantization="int8")


@pytest.mark.parametrize("kind", ["sd", "flux", "qwen-image"])
def test_channels_last_changes_the_layout_alone(make: Make, kind: str) -> None:
    plain, laid = make(kind), make(kind, channels_last=True)
    weights = [weight for weight in laid._pipeline.vae.parameters() if weight.dim() == 4]
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in weights)
    images = [each.generate(PROMPTS, [1, 2, 3]).pixels for each in (plain, laid)]
    assert differences(*images) <= 2


@pytest.mark.parametrize("kind", ["sd", "flux"])
def test_the_denoiser_is_compiled(make: Make, kind: str) -> None:
    generator = make(kind, compile=True)
    name = "unet" if kind == "sd" else "transformer"
    assert getattr(generator._pipeline, name)._compiled_call_impl is not None
    with torch.compiler.set_stance("force_eager"):  # compiling takes a minute; the rest is real
        generator.warm_up(2)
        images = generator.generate(PROMPTS, [1, 2, 3])
    assert differences(images.pixels, make(kind).generate(PROMPTS, [1, 2, 3]).pixels) == 0


def test_all_settings_have_a_place_in_the_recipe() -> None:
    from synthvlm.recipe.generation import GenerationSettings, RefinerSettings

    ours = inspect.signature(DiffusersSettings).parameters.keys() - {"device"}
    assert ours <= GenerationSettings.model_fields.keys()
    assert inspect.signature(Refiner).parameters.keys() == RefinerSettings.model_fields.keys()
    lora = inspect.signature(Lora).parameters
    settings = GenerationSettings.model_fields["loras"].annotation.__args__[0].model_fields
    assert lora.keys() == settings.keys()
    assert math.isclose(lora["scale"].default, settings["scale"].default)
