"""One contract for every kind of pipeline, each a small real one with random weights."""

from __future__ import annotations

import functools
import gc
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor

from random_pipelines import SAVERS
from synthvlm.errors import GenerationError, ModelError, OutOfMemoryError, RecipeError
from synthvlm.generators.diffusers import DiffusersGenerator
from synthvlm.generators.prompt_encoding import PROMPT_FACTS
from synthvlm.generators.settings import Refiner

Folder = Callable[[str], Path]
Make = Callable[..., DiffusersGenerator]

#: Kandinsky 5 generates in a few large sizes alone: test_pipeline_classes.py.
KINDS = (*(name for name in SAVERS if name not in ("refiner", "kandinsky5")), "sdxl+refiner")
KINDS = (*KINDS, "sd3-without-t5")
PROMPTS = ["a red circle", "a red circle", "a blue star above two green squares"]

#: Guided by a negative prompt, where that is not what guidance_scale does.
GUIDED = {
    "flux": {"call": {"true_cfg_scale": 3.0}, "negative_prompt": "blurry and more than that"},
    "qwen-image": {"call": {"true_cfg_scale": 3.0}, "negative_prompt": " "},
}


def differences(one: torch.Tensor, other: torch.Tensor) -> int:
    return int((one.int() - other.int()).abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_determined_by_prompt_and_seed_alone(make: Make, kind: str) -> None:
    generator = make(kind, **GUIDED.get(kind, {}))
    together = generator.generate(PROMPTS, [1, 2, 3])
    assert together.pixels.dtype == torch.uint8
    assert together.pixels.shape == (3, 3, 32, 32)
    assert together.problems == (None, None, None)
    assert together.truncated == (False, False, False)
    assert generator.reproducible
    for row, (prompt, seed) in enumerate(zip(PROMPTS, [1, 2, 3], strict=True)):
        alone = make(kind, **GUIDED.get(kind, {})).generate([prompt], [seed]).pixels[0]
        assert differences(alone, together.pixels[row]) <= 2
    assert differences(together.pixels[0], together.pixels[1]) > 20


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_those_of_the_pipeline_called_plainly(
    make: Make, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = make(kind, **GUIDED.get(kind, {})).generate(PROMPTS, [1, 2, 3])
    for name in list(PROMPT_FACTS):
        monkeypatch.delitem(PROMPT_FACTS, name)
    plain = make(kind, **GUIDED.get(kind, {})).generate(PROMPTS, [1, 2, 3])
    assert differences(ours.pixels, plain.pixels) <= 2
    if "+" not in kind:
        assert plain.truncated == (False, False, False)


# Z-Image Omni gets plain prompts: test_a_class_that_is_not_known_encodes_a_prompt_once_as_well.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "z-image-omni"])
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
                encoded.extend(text for text in kwargs["prompt"] if text)
            return _original(*args, **kwargs)

        monkeypatch.setattr(pipeline, "encode_prompt", spy)
    for prompts, seeds in ((["a", "a", "a"], [1, 2, 3]), (["a", "b", "b"], [4, 5, 6])):
        generator.generate(prompts, seeds)
    copies = 2 if "+" in kind else 1
    assert sorted(encoded) == ["a"] * copies + ["b"] * copies


@pytest.mark.parametrize("kind", ["sd", "sd3", "chroma", "qwen-image", "lumina2", "sdxl+refiner"])
def test_a_class_that_is_not_known_encodes_a_prompt_once_as_well(
    make: Make, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a batch and in the next one, and so the negative prompt; the images are the same."""
    for name in list(PROMPT_FACTS):
        monkeypatch.delitem(PROMPT_FACTS, name)
    generator = make(kind)
    pipeline = generator._pipelines()[-1]  # the refiner, where there is one
    encoders = {n: e for n, e in vars(pipeline).items() if n.startswith("text_encoder") and e}
    seen: dict[str, list[int]] = {name: [] for name in encoders}
    for name, encoder in encoders.items():

        def count(module: Any, args: Any, kwargs: Any, name: str = name) -> None:
            seen[name].append(len(args[0] if args else kwargs["input_ids"]))

        encoder.register_forward_pre_hook(count, with_kwargs=True)
    prompts = ["a dog", "a dog", "a dog", "a cat"]
    generator.generate(prompts, [1, 2, 3, 4])
    images = generator.generate(["a cat", "a cat", "a dog", "a cow"], [5, 6, 7, 8]).pixels
    assert {n: e for n, e in vars(pipeline).items() if n in encoders} == encoders
    for name, rows in seen.items():
        assert 3 <= sum(rows) <= 4, (name, rows)  # three prompts, and for some a negative one
    alone = make(kind).generate(["a dog"], [7]).pixels[0]
    assert differences(images[2], alone) <= 2


def test_the_prompt_matters(make: Make) -> None:
    for kind in KINDS:
        generator = make(kind)
        images = generator.generate(["a red circle", "two yellow stars"], [1, 1])
        assert not torch.equal(*images.pixels), kind


@pytest.mark.parametrize("kind", ["sdxl", "chroma", "sana", "z-image", "lumina2", *GUIDED])
def test_the_negative_prompt_matters(make: Make, kind: str) -> None:
    guided = {**GUIDED.get(kind, {}), "negative_prompt": "very blurry"}
    negative = make(kind, **guided).generate(["a red circle"], [1]).pixels
    guided["negative_prompt"] = "a blue star"
    assert not torch.equal(make(kind, **guided).generate(["a red circle"], [1]).pixels, negative)


def test_a_negative_prompt_that_does_nothing_is_refused(make: Make) -> None:
    for kind, words in (
        ("flux", "call.true_cfg_scale of a FluxPipeline is above 1"),
        ("sana-sprint", "a SanaSprintPipeline takes no generation.negative_prompt"),
    ):
        with pytest.raises(ModelError, match=words.removeprefix("a ")):
            make(kind, negative_prompt="blurry")
    with pytest.raises(ModelError, match="guidance_scale of a StableDiffusionXLPipeline is above"):
        make("sdxl", negative_prompt="blurry", guidance_scale=0.0)


def test_the_refiner_does_the_last_steps(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = make("sdxl+refiner", steps=10)
    steps = {"base": 0, "refiner": 0}
    for name, pipeline in zip(steps, generator._pipelines(), strict=True):
        forward = pipeline.unet.forward

        def spy(*args: Any, _name: str = name, _forward: Any = forward, **kwargs: Any) -> Any:
            steps[_name] += 1
            return _forward(*args, **kwargs)

        monkeypatch.setattr(pipeline.unet, "forward", spy)
    generator.generate(["a red circle"], [1])
    assert steps == {"base": 8, "refiner": 2}


@pytest.mark.parametrize("kind", ["sdxl", "flux-schnell", "z-image", "pixart-sigma", "sd3"])
@pytest.mark.parametrize("guidance_scale", [0.0, 1.0])
def test_without_guidance(make: Make, kind: str, guidance_scale: float) -> None:
    generator = make(kind, guidance_scale=guidance_scale, steps=1)
    assert generator.generate(["a", "b"], [1, 2]).problems == (None, None)


def test_the_size_is_obeyed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without binning; 64 x 32 is no size that these classes were trained in.
    for kind in ("pixart-sigma", "sana", "sana-sprint"):
        images = make(kind, height=64, width=32).generate(["a"], [1])
        assert images.pixels.shape == (1, 3, 64, 32)
    with pytest.raises(
        ModelError, match="generates 32 x 32 pixels where generation asks for 32 x 34"
    ):
        make("qwen-image", height=34).generate(["a"], [1])
    with pytest.raises(GenerationError, match="divisible by 32 but are 40 and 32"):
        make("sana", height=40).generate(["a"], [1])


def test_arguments_of_the_call(make: Make) -> None:
    plain = make("sd").generate(["a"], [1]).pixels
    noisy = make("sd", call={"eta": 1.0}).generate(["a"], [1]).pixels
    assert not torch.equal(plain, noisy)
    plain = make("sdxl").generate(["a"], [1]).pixels
    skipped = make("sdxl", call={"clip_skip": 1}).generate(["a"], [1]).pixels
    assert not torch.equal(plain, skipped), "it is encode_prompt that makes use of it"
    bare = make("sana", call={"complex_human_instruction": None}).generate(["a"], [1]).pixels
    assert not torch.equal(make("sana").generate(["a"], [1]).pixels, bare)


@pytest.mark.parametrize(
    ("kind", "name", "ending"),
    [
        ("flux", "true_cfg", ", did you mean 'true_cfg_scale'?"),
        ("z-image", "cfg_normalisation", ", did you mean 'cfg_normalization'?"),
        ("sd", "steps", " (valid: clip_skip, eta, guidance_rescale)"),
        ("sd", "generator", " (valid: clip_skip, eta, guidance_rescale)"),
        ("sd", "prompt_embeds", " (valid: clip_skip, eta, guidance_rescale)"),
    ],
)
def test_arguments_that_a_call_does_not_take(make: Make, kind: str, name: str, ending: str) -> None:
    line = rf"^generation\.call\.{name}: a \w+Pipeline has no such setting{re.escape(ending)}$"
    with pytest.raises(RecipeError, match=line):
        make(kind, call={name: 1})


def test_offload_needs_a_device_to_offload_from(make: Make) -> None:
    with pytest.raises(RecipeError, match=r"^generation\.offload is for a GPU"):
        make("sd", offload="model")


def test_one_image_at_a_time_is_decoded_where_that_is_asked(make: Make) -> None:
    generator = make("sd", vae_slicing=True)
    assert generator._pipeline.vae.use_slicing
    whole = make("sd").generate(PROMPTS, [1, 2, 3])
    assert differences(generator.generate(PROMPTS, [1, 2, 3]).pixels, whole.pixels) <= 1


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
        raise RuntimeError("shapes do not match\nand more")

    monkeypatch.setattr(generator._pipeline.unet, "forward", fail)
    with pytest.raises(GenerationError, match=r"^\w+Pipeline failed: shapes do not match$") as told:
        generator.generate(["a"], [1])
    assert not isinstance(told.value, OutOfMemoryError)


def allocate(*args: Any, **kwargs: Any) -> Any:
    return torch.empty(2**60)  # the CPU's allocator, for real


def run_out(*args: Any, **kwargs: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nand more")


@pytest.mark.parametrize("failing", [allocate, run_out])
@pytest.mark.parametrize("kind", ["sd", "sana"])  # Sana's pipeline swallows some
def test_a_lack_of_memory_is_named_and_leaves_nothing_behind(
    make: Make, monkeypatch: pytest.MonkeyPatch, failing: Any, kind: str
) -> None:
    generator = make(kind)
    vae = generator._pipeline.vae
    expected = generator.generate(PROMPTS, [1, 2, 3]).pixels
    held: list[weakref.ref[torch.Tensor]] = []

    def decode(latents: torch.Tensor, **kwargs: Any) -> Any:
        work = latents + 1  # what a batch holds when it fails
        held.append(weakref.ref(work))
        vae.to(torch.float64)  # as SDXL's pipeline does, in half precision
        return failing(work)

    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(vae, "decode", decode)
        if kind == "sana" and failing is run_out:
            patch.setattr("warnings.warn", lambda *_, **__: None)  # it tells of it that way
        gc.disable()  # freed by what we do, not by luck
        try:
            with pytest.raises(OutOfMemoryError, match=r"^\w+Pipeline ran out of memory: ") as told:
                generator.generate(PROMPTS, [1, 2, 3])
        finally:
            gc.enable()
    assert "\n" not in str(told.value)
    assert told.value.__context__ is None, "a traceback would hold the batch's tensors"
    assert [work() for work in held] == [None]
    assert differences(generator.generate(PROMPTS, [1, 2, 3]).pixels, expected) == 0


def test_an_unknown_class_gets_plain_prompts(
    make: Make, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    negative = make("sd", negative_prompt="blurry").generate(PROMPTS, [1, 2, 3])
    monkeypatch.delitem(PROMPT_FACTS, StableDiffusionPipeline.__name__)
    generator = make("sd", negative_prompt="blurry")
    images = generator.generate([*PROMPTS, "a" * 100], [1, 2, 3, 4])
    assert differences(images.pixels[:3], negative.pixels) <= 2
    assert images.truncated == (False, False, False, True)


def test_step_noise_comes_from_the_seeds(make: Make) -> None:
    options = {"scheduler": "LCMScheduler", "steps": 4, "guidance_scale": 0.0}
    generator = make("sdxl", **options)
    torch.manual_seed(7)
    together = generator.generate(PROMPTS, [1, 2, 3]).pixels
    assert generator.reproducible
    for row in range(3):
        alone = generator.generate([PROMPTS[row]], [row + 1]).pixels[0]
        assert differences(alone, together[row]) <= 2
    # And it is there: the same start noise with other step noise is another image.
    start = [torch.Generator("cpu").manual_seed(1)]
    noise = randn_tensor((1, 4, 16, 16), generator=start, dtype=torch.float32)
    arguments, _ = generator._encoders[0].arguments(PROMPTS[:1])
    images = [
        generator._pipeline(
            **generator._calls[0],
            **arguments,
            height=32,
            width=32,
            latents=noise.clone(),
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="pt",
        ).images
        for seed in (1, 2)
    ]
    assert not torch.equal(*images)


def test_models_that_cannot_be_used_are_refused(
    make: Make, folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SAVERS, "empty", lambda _: tmp_path)
    with pytest.raises(ModelError, match="holds no model_index"):
        make("empty")
    with pytest.raises(ModelError, match="it changes an image that it is given"):
        make("refiner")
    with pytest.raises(ModelError, match="not a refiner"):
        make("sdxl", refiner=Refiner(str(folder("sd"))))
    with pytest.raises(ModelError, match="cannot hand over"):
        make("sd+refiner")
    with pytest.raises(ModelError, match="max_sequence_length"):
        make("sd", max_sequence_length=512)
