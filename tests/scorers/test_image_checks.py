"""Checks of generated images: small real models with random weights, and drawn pictures."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    pipeline,
)

from synthvlm.errors import ModelError
from synthvlm.scorers.image_checks import (
    ImageClassifierCheck,
    StableDiffusionCheck,
    blank_images,
    load_image_check,
)
from synthvlm.tiny import pipeline_path
from synthvlm.tiny.captions import KINDS, sample_claim, sample_scene
from synthvlm.tiny.world import render

SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}


def pictures(*arrays: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


def plain(value: int) -> np.ndarray:
    return np.full((64, 64, 3), value, np.uint8)


def varied(seed: int) -> np.ndarray:
    """Soft noise of some colour."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (int(rng.integers(1, 12)), 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((64, 64)))


#: For the safety checker.
SEEN = [varied(seed) for seed in range(40)]


def copy_weights(source: Path, folder: Path, renamed: Callable[[str], str | None]) -> None:
    """Copy a model with other names of its weights, or without some (None)."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    weights = load_file(source / "model.safetensors")
    named = {renamed(name): value for name, value in weights.items()}
    named.pop(None, None)
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})


BYTES = st.integers(0, 255)


@given(st.tuples(BYTES, BYTES, BYTES), st.floats(0, 0.8), st.randoms())
def test_one_colour_is_blank(
    colour: tuple[int, int, int], deviation: float, random: Random
) -> None:
    rng = np.random.default_rng(random.randrange(2**32))
    noisy = np.array(colour) + deviation * rng.standard_normal((64, 64, 3))
    image = noisy.clip(0, 255).round().astype(np.uint8)
    (problem,) = blank_images(pictures(image))
    assert problem == ("the image is black" if image.max() <= 16 else "the image is of one colour")


@given(BYTES, st.integers(17, 255), st.integers(0, 2), st.integers(0, 63), st.integers(0, 63))
def test_a_single_pixel_that_can_be_seen_is_not_blank(
    value: int, more: int, channel: int, x: int, y: int
) -> None:
    image = plain(value)
    image[y, x, channel] = value + more if value + more <= 255 else max(value - more, 0)
    seen = abs(int(image[y, x, channel]) - value) > 16
    assert (blank_images(pictures(image)) == [None]) == seen


@given(BYTES, st.integers(5, 255), st.integers(0, 2), st.booleans())
def test_a_ramp_is_not_blank(value: int, height: int, channel: int, is_upright: bool) -> None:
    image = plain(value)
    low = min(value, 255 - height)
    ramp = np.linspace(low, low + height, 64).round().astype(np.uint8)
    image[..., channel] = ramp[:, None] if is_upright else ramp[None]
    assert blank_images(pictures(image)) == [None]


def test_what_an_autoencoder_makes_of_nothing_is_blank() -> None:
    vae = AutoencoderTiny.from_pretrained(pipeline_path(), subfolder="vae", dtype=torch.float32)
    with torch.inference_mode():
        decoded = vae.decode(torch.zeros(1, 16, 8, 8)).sample
    image = ((decoded.clamp(-1, 1) + 1) * 127.5).round().byte()
    assert len(image.unique()) > 8
    assert blank_images(image) == ["the image is of one colour"]


def test_drawings_fog_and_noise_are_not_blank() -> None:
    rng = Random(0)
    claims = [sample_claim(rng, KINDS[n % len(KINDS)]) for n in range(500)]
    drawn = render([sample_scene(claim, rng) for claim in claims])
    assert set(blank_images(pictures(*drawn))) == {None}
    fog = np.linspace(200, 212, 64).astype(np.uint8)[None, :, None].repeat(64, 0).repeat(3, 2)
    dot = plain(255)
    dot[30:33, 30:33] = 0
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert blank_images(pictures(fog, dot, noise)) == [None] * 3
    assert blank_images(pictures(dot, plain(0), fog, plain(128))) == [
        None, "the image is black", None, "the image is of one colour",
    ]  # fmt: skip
    assert blank_images(pictures(dot)[:0]) == []


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "vit"
    torch.manual_seed(0)
    config = ViTConfig(
        image_size=32, patch_size=8, num_attention_heads=2, id2label={0: "normal", 1: "nsfw"},
        label2id={"normal": 0, "nsfw": 1}, **SMALL,
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_a_classifier_rejects_by_its_own_probability(classifier: Path) -> None:
    model = ViTForImageClassification.from_pretrained(classifier)
    processor = ViTImageProcessorPil.from_pretrained(classifier)
    images = [plain(10), plain(120), plain(250)]
    with torch.inference_mode():
        logits = model(**processor(images=images, return_tensors="pt")).logits
    probabilities = logits.softmax(-1)[:, 1].tolist()
    limit = sorted(probabilities)[1]
    check = ImageClassifierCheck(str(classifier), labels=["nsfw"], max_probability=limit)
    expected = [
        f"nsfw {value:.2f} (limit {limit:g})" if value > limit else None for value in probabilities
    ]
    found = check.check(pictures(*images))
    assert found == expected
    assert sum(reason is not None for reason in found) == 1


@pytest.mark.parametrize(
    "problem_type", ["single_label_classification", "multi_label_classification"]
)
def test_probabilities_are_those_of_the_pipeline_of_transformers(
    classifier: Path, tmp_path: Path, problem_type: str
) -> None:
    model = ViTForImageClassification.from_pretrained(classifier)
    model.config.problem_type = problem_type
    model.save_pretrained(tmp_path)
    processor = ViTImageProcessorPil.from_pretrained(classifier)
    processor.save_pretrained(tmp_path)
    images = [varied(number) for number in range(6)]
    by_hand = pipeline("image-classification", model=model, image_processor=processor)
    check = ImageClassifierCheck(str(tmp_path), labels=["normal", "nsfw"], max_probability=0.0)
    for reason, image in zip(check.check(pictures(*images)), images, strict=True):
        best = by_hand(Image.fromarray(image))[0]
        assert reason == f"{best['label']} {best['score']:.2f} (limit 0)"


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_an_image_of_a_few_rows_has_its_channels_last(classifier: Path, rows: int) -> None:
    image = varied(rows)[:rows]
    classify = pipeline("image-classification", str(classifier), device="cpu", top_k=None)
    golden = {entry["label"]: entry["score"] for entry in classify(Image.fromarray(image))}
    check = ImageClassifierCheck(str(classifier), labels=["nsfw"], max_probability=0.0)
    assert check.check(pictures(image)) == [f"nsfw {golden['nsfw']:.2f} (limit 0)"]


def test_labels_that_the_model_does_not_have_are_refused(classifier: Path) -> None:
    with pytest.raises(ModelError, match=r"no label .nude.*some of normal, nsfw"):
        ImageClassifierCheck(str(classifier), labels=["nsfw", "nude"])
    with pytest.raises(ModelError, match=r"is a classifier: set .*some of normal, nsfw"):
        ImageClassifierCheck(str(classifier), labels=[])


def test_a_regression_is_refused(classifier: Path, tmp_path: Path) -> None:
    model = ViTForImageClassification.from_pretrained(classifier)
    model.config.problem_type = "regression"
    model.save_pretrained(tmp_path)
    ViTImageProcessorPil.from_pretrained(classifier).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no probabilities"):
        ImageClassifierCheck(str(tmp_path), labels=["nsfw"])


def test_a_classifier_without_its_head_is_refused(classifier: Path, tmp_path: Path) -> None:
    copy_weights(classifier, tmp_path, lambda name: None if "classifier" in name else name)
    with pytest.raises(ModelError, match=r"no weights classifier\.bias"):
        ImageClassifierCheck(str(tmp_path), labels=["nsfw"])


def test_what_cannot_be_judged_does_not_pass(classifier: Path, tmp_path: Path) -> None:
    model = ViTForImageClassification.from_pretrained(classifier)
    model.classifier.bias.data[:] = float("nan")
    model.save_pretrained(tmp_path)
    ViTImageProcessorPil.from_pretrained(classifier).save_pretrained(tmp_path)
    check = ImageClassifierCheck(str(tmp_path), labels=["nsfw"])
    assert check.check(pictures(plain(10))) == ["nsfw nan (limit 0.5)"]


@pytest.fixture(scope="module")
def safety_checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Concepts and thresholds such that each of them finds about a tenth of `SEEN`."""
    folder = tmp_path_factory.mktemp("models") / "checker"
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={"num_attention_heads": 2, **SMALL},
        vision_config={"num_attention_heads": 2, "image_size": 32, "patch_size": 8, **SMALL},
        projection_dim=16,
    )
    model = StableDiffusionSafetyChecker(config)
    side = {"height": 32, "width": 32}
    processor = CLIPImageProcessorPil(size=side, crop_size=side)
    inputs = processor(images=SEEN, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        embeddings = model.visual_projection(model.vision_model(inputs)[1])
    for concepts, thresholds in (
        (model.concept_embeds, model.concept_embeds_weights),
        (model.special_care_embeds, model.special_care_embeds_weights),
    ):
        concepts.data = torch.randn_like(concepts)
        normal = torch.nn.functional.normalize
        thresholds.data = (normal(embeddings) @ normal(concepts).T).quantile(0.95, 0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def library_finds(folder: Path, images: list[np.ndarray]) -> list[bool]:
    model = StableDiffusionSafetyChecker.from_pretrained(folder)
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    inputs = processor(images=images, return_tensors="pt")["pixel_values"]
    return model(clip_input=inputs, images=[image.copy() for image in images])[1]


def test_the_safety_checker_finds_what_diffusers_finds(safety_checker: Path) -> None:
    expected = library_finds(safety_checker, SEEN)
    assert 5 < sum(expected) < 35
    check, images = StableDiffusionCheck(str(safety_checker)), pictures(*SEEN)
    before = images.clone()
    found = check.check(images)
    assert [reason is not None for reason in found] == expected
    assert torch.equal(images, before)
    assert found == [reason for n in range(40) for reason in check.check(images[n : n + 1])]


def test_the_safety_checker_says_how_much_it_found(safety_checker: Path, tmp_path: Path) -> None:
    model = StableDiffusionSafetyChecker.from_pretrained(safety_checker)
    processor = CLIPImageProcessorPil.from_pretrained(safety_checker)
    with torch.inference_mode():
        inputs = processor(images=SEEN[:1], return_tensors="pt")["pixel_values"]
        (embedding,) = model.visual_projection(model.vision_model(inputs)[1])
    model.special_care_embeds_weights.data[:] = 2.0
    model.concept_embeds.data[[3, 5]] = embedding  # cosines of 1
    model.concept_embeds_weights.data[:] = 2.0
    model.concept_embeds_weights.data[[3, 5]] = torch.tensor([0.75, 1.005])

    def found() -> list[str | None]:
        model.save_pretrained(tmp_path)
        processor.save_pretrained(tmp_path)
        return StableDiffusionCheck(str(tmp_path)).check(pictures(SEEN[0]))

    assert found() == ["1 unsafe concept, 0.250 above the threshold"]
    model.special_care_embeds.data[1] = embedding
    model.special_care_embeds_weights.data[1] = 0.5  # near a special one: all others 0.01 nearer
    assert found() == ["2 unsafe concepts, 0.260 above the threshold"]


def test_a_safety_checker_of_older_files_loads(safety_checker: Path, tmp_path: Path) -> None:
    """As published: other names of weights, class and image processor."""
    older = "vision_model.vision_model."
    copy_weights(safety_checker, tmp_path, lambda name: re.sub(r"^(vision_model\.)+", older, name))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps({**config, "architectures": ["SafetyChecker"]})
    )
    (tmp_path / "preprocessor_config.json").write_text(
        '{"feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 32}'
    )
    expected = load_image_check(str(safety_checker)).check(pictures(*SEEN))
    assert load_image_check(str(tmp_path)).check(pictures(*SEEN)) == expected
    copy_weights(safety_checker, tmp_path, lambda name: None if name == "concept_embeds" else name)
    with pytest.raises(ModelError, match=r"the safety checker .*no weights concept_embeds"):
        StableDiffusionCheck(str(tmp_path))


def test_the_kind_of_check_is_the_models(classifier: Path, safety_checker: Path) -> None:
    check = load_image_check(str(classifier), labels=["nsfw"], max_probability=0.0)
    assert isinstance(check, ImageClassifierCheck)
    assert str(check.check(pictures(plain(0)))[0]).endswith("(limit 0)")
    assert isinstance(load_image_check(str(safety_checker)), StableDiffusionCheck)
    with pytest.raises(ModelError, match=r"is a classifier: set .* some of normal, nsfw"):
        load_image_check(str(classifier))
    with pytest.raises(ModelError, match="thresholds of its own: remove the labels"):
        load_image_check(str(safety_checker), labels=["nsfw"])


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no config"):
        load_image_check(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot load the image-check model"):
        load_image_check(str(tmp_path))
