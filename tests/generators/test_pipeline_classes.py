"""What of a pipeline is known from its class: whether it can serve, and what it obeys."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import diffusers
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from synthvlm.errors import ModelError, RecipeError
from synthvlm.generators import pipeline_classes
from synthvlm.generators.diffusers import DiffusersGenerator
from synthvlm.generators.pipeline_classes import (
    AS_WRITTEN,
    check_text_to_image,
    pipeline_class,
    rewrites_prompts,
    runs_in_bfloat16,
)
from synthvlm.generators.settings import Vae
from synthvlm.recipe import RECIPES, Recipe
from synthvlm.stages.generation.models import generation_dtype

Folder = Callable[[str], Path]
Make = Callable[..., DiffusersGenerator]
PROMPTS = ["a red circle", "a blue star"]


def index(folder: Path, name: object) -> str:
    """A folder that says it is a pipeline of a class, and holds no weights."""
    (folder / "model_index.json").write_text(json.dumps({"_class_name": name}))
    return str(folder)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("StableDiffusionImg2ImgPipeline", "changes an image"),
        ("QwenImageEditPipeline", "changes an image"),
        ("StableDiffusionUpscalePipeline", "changes an image"),
        ("WanPipeline", "makes videos"),
        ("StableAudioPipeline", "makes audio"),
        ("DDPMPipeline", "takes no prompt"),
        ("GlmImagePipeline", "takes no seed"),
        ("FluxKontextPipeline", "whatever size"),
        ("QwenImage21Pipeline", "not supported yet"),
    ],
)
def test_a_class_that_cannot_serve_is_refused_before_its_weights_are_loaded(
    tmp_path: Path, name: str, why: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = index(tmp_path, name)
    with pytest.raises(ModelError, match=why) as refused:
        check_text_to_image(pipeline_class(model), model)
    assert name in str(refused.value)


@pytest.mark.parametrize("name", ["NoSuchPipeline", ["pipeline.py", "OwnPipeline"], "UNet2DModel"])
def test_a_class_that_diffusers_does_not_have(tmp_path: Path, name: object) -> None:
    with pytest.raises(ModelError, match="does not have"):
        pipeline_class(index(tmp_path, name))


def test_a_damaged_index_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ModelError, match="cannot load the diffusion model"):
        pipeline_class(str(tmp_path))


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks` argument")
def test_a_hub_that_is_not_asked_is_not_a_missing_file() -> None:
    with pytest.raises(ModelError, match="the hub may not be asked: unset HF_HUB_OFFLINE"):
        pipeline_class("acme/none")


def test_kandinsky_5_generates(make: Make) -> None:
    generator = make("kandinsky5", height=640, width=1408, steps=1)
    images = generator.generate(PROMPTS, [1, 2])
    assert images.pixels.shape == (2, 3, 640, 1408)
    assert images.problems == (None, None)
    assert not torch.equal(images.pixels[0], images.pixels[1])


def test_prompts_are_not_rewritten_unless_asked_and_then_marked() -> None:
    for name, argument in (
        ("ErnieImagePipeline", "use_pe"),
        ("LongCatImagePipeline", "enable_prompt_rewrite"),
    ):
        parameters = pipeline_classes.call_parameters(getattr(diffusers, name))
        assert parameters[argument].default is True, "else it need not be switched off"
        assert AS_WRITTEN[argument] is False
        assert rewrites_prompts({argument: True})
    assert not rewrites_prompts(AS_WRITTEN)


def test_a_watermark_is_never_added(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make("sdxl").generate(PROMPTS, [1, 2]).pixels
    module = "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl"
    blank = SimpleNamespace(apply_watermark=lambda images: images * 0)
    monkeypatch.setattr(f"{module}.is_invisible_watermark_available", lambda: True)
    monkeypatch.setattr(f"{module}.StableDiffusionXLWatermarker", lambda: blank, raising=False)
    assert torch.equal(make("sdxl").generate(PROMPTS, [1, 2]).pixels, plain)


def test_what_a_safety_checker_blackens_is_unsafe_not_failed(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = make("sd")

    def check(self: StableDiffusionPipeline, image: torch.Tensor, *_: object) -> object:
        image[1] = 0
        return image, [False, True]

    monkeypatch.setattr(StableDiffusionPipeline, "run_safety_checker", check)
    images = generator.generate(PROMPTS, [1, 2])
    assert images.problems == (None, None)
    assert images.unsafe == (None, "the pipeline's safety checker")


def test_another_vae_decodes(make: Make, folder: Folder, tmp_path: Path) -> None:
    own = folder("sd")
    plain = make("sd").generate(PROMPTS, [1, 2]).pixels
    same = make("sd", vae=Vae(str(own), subfolder="vae")).generate(PROMPTS, [1, 2]).pixels
    assert torch.equal(same, plain)
    other = AutoencoderKL.from_pretrained(own, subfolder="vae")
    with torch.no_grad():
        other.decoder.conv_out.bias += 0.5
    other.save_pretrained(tmp_path)
    changed = make("sd", vae=Vae(str(tmp_path))).generate(PROMPTS, [1, 2]).pixels
    assert not torch.equal(changed, plain)
    with pytest.raises(ModelError, match="no such file or folder"):
        make("sd", vae=Vae(str(tmp_path / "none")))
    with pytest.raises(ModelError, match="it is for another model"):
        make("z-image", vae=Vae(str(tmp_path)))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("flux-schnell", {"guidance_scale": 3.5}),
        ("qwen-image", {"guidance_scale": 4.0}),
    ],
)
def test_a_guidance_that_does_nothing_is_refused(
    make: Make, kind: str, changes: dict[str, float]
) -> None:
    with pytest.raises(RecipeError, match=r"--set generation\.guidance_scale=1"):
        make(kind, **changes)


@pytest.mark.parametrize(("kind", "most"), [("flux", 512), ("sd3", 512)])
def test_too_many_tokens_are_refused_when_it_is_loaded(make: Make, kind: str, most: int) -> None:
    with pytest.raises(RecipeError, match=f"--set generation.max_sequence_length={most}"):
        make(kind, max_sequence_length=most + 1)
    make(kind, max_sequence_length=most)


def test_which_classes_run_in_bfloat16() -> None:
    half = ["StableDiffusionPipeline", "StableDiffusionXLPipeline", "PixArtSigmaPipeline"]
    brain = ["FluxPipeline", "Flux2KleinPipeline", "QwenImagePipeline", "SanaPipeline"]
    brain += ["ZImagePipeline", "Lumina2Pipeline", "ChromaPipeline", "Kandinsky5T2IPipeline"]
    assert [runs_in_bfloat16(getattr(diffusers, name)) for name in half] == [False] * 3
    assert all(runs_in_bfloat16(getattr(diffusers, name)) for name in brain)


@pytest.mark.parametrize(
    ("kind", "device", "dtype"),
    [
        ("flux-schnell", "cuda", "bfloat16"),
        ("sdxl", "cuda", "float16"),
        ("flux-schnell", "cpu", "float32"),
    ],
)
def test_the_dtype_of_auto(folder: Folder, kind: str, device: str, dtype: str) -> None:
    change = f"generation.model={folder(kind)}"
    assert generation_dtype(Recipe.load("tiny", overrides=[change]), device) == dtype


def test_recipes_set_the_dtype_of_their_class() -> None:
    # By the class that the hub's model has; sd35 is published for bfloat16 as well.
    classes = {"flux": "FluxPipeline", "qwen": "QwenImagePipeline", "sana": "SanaPipeline"}
    classes |= {"z-image": "ZImagePipeline", "sdxl": "StableDiffusionXLPipeline"}
    for name in RECIPES.lines():
        for beginning, kind in classes.items():
            if name.startswith(beginning):
                dtype = Recipe.load(name, captions=["c.txt"]).generation.dtype
                expected = runs_in_bfloat16(getattr(diffusers, kind))
                assert (dtype == "bfloat16") is expected, name
