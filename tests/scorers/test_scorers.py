"""One contract for every scorer, and both against other people's code."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter
from safetensors.torch import load_file, save_file
from skimage.metrics import structural_similarity
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

import random_models
from synthvlm.errors import ModelError
from synthvlm.scorers.base import Scorer, Scores
from synthvlm.scorers.clip import ClipScorer
from synthvlm.scorers.ssim import SsimScorer, ssim_score


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_models.save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module", params=["clip", "ssim"])
def scorer(request: pytest.FixtureRequest, clip_folder: Path) -> Scorer:
    if request.param == "clip":
        return ClipScorer(str(clip_folder))
    return SsimScorer(side=64, model_input_side=28)


def test_scores_of_batches_are_joined_with_all_that_they_hold() -> None:
    eye = np.eye(3, dtype=np.float32)
    parts = [
        Scores(np.array([0.1, 0.2]), eye[:2], eye[1:], (True, False)),
        Scores(np.array([0.3]), eye[2:], eye[:1], (True,)),
    ]
    joined = Scores.joined(parts)
    assert joined.values.tolist() == [0.1, 0.2, 0.3]
    assert joined.image_embeddings is not None
    assert joined.text_embeddings is not None
    np.testing.assert_array_equal(joined.image_embeddings, eye)
    np.testing.assert_array_equal(joined.text_embeddings, eye[[1, 2, 0]])
    assert joined.truncated == (True, False, True)
    assert Scores.joined([*parts, Scores(np.array([0.4]))]).truncated is None


def varied_images(count: int, side: int) -> list[Image.Image]:
    """Flat, noisy, drawn, blurred and fine-grained pictures in turn."""
    rng = np.random.default_rng(0)
    images = []
    for number in range(count):
        kind = number % 5
        color = tuple(int(v) for v in rng.integers(0, 256, 3))
        image = Image.new("RGB", (side, side), color)
        if kind in (1, 4):
            noise = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            image = Image.fromarray(noise)
            if kind == 4:
                image = image.filter(ImageFilter.GaussianBlur(number / 10 + 0.5))
        if kind in (2, 3):
            draw = ImageDraw.Draw(image)
            for _ in range(6):
                x, y = (int(v) for v in rng.integers(0, side, 2))
                fill = tuple(int(v) for v in rng.integers(0, 256, 3))
                draw.ellipse((x, y, x + side // 4, y + side // (2 + kind)), fill=fill)
            for x in range(0, side, number + 2):
                draw.line((x, 0, side - x, side), fill=color)
        images.append(image)
    return images


def as_batch(images: list[Image.Image]) -> torch.Tensor:
    arrays = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2)


def test_a_score_does_not_depend_on_the_batch(scorer: Scorer) -> None:
    images, captions = as_batch(varied_images(5, 48)), [f"picture {n}" for n in range(5)]
    together = scorer.score(images, captions).values
    assert together.shape == (5,)
    assert together.dtype == np.float64
    assert np.isfinite(together).all()
    assert (np.abs(together) <= 1).all()
    alone = [scorer.score(images[n : n + 1], captions[n : n + 1]).values[0] for n in range(5)]
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize(("side", "small"), [(64, 28), (768, 336)])
def test_ssim_equals_scikit_image_on_the_authors_procedure(side: int, small: int) -> None:
    for image in varied_images(50 if side == 64 else 10, 80):
        full = image.resize((side, side), Image.BILINEAR)
        back = full.resize((small, small), Image.BILINEAR).resize((side, side), Image.BILINEAR)
        expected = structural_similarity(np.array(full.convert("L")), np.array(back.convert("L")))
        assert ssim_score(np.asarray(image), side, small) == pytest.approx(expected, abs=1e-4)


def test_a_flat_image_survives_and_noise_does_not() -> None:
    flat, noise = varied_images(2, 64)
    assert ssim_score(np.asarray(flat), 64, 28) == pytest.approx(1.0)
    assert ssim_score(np.asarray(noise), 64, 28) < 0.5


def test_clip_score_equals_a_direct_computation(clip_folder: Path) -> None:
    images = varied_images(12, 70)
    captions = [f"{n} things, of which {n} are round" for n in range(12)]
    scores = ClipScorer(str(clip_folder)).score(as_batch(images), captions)
    model = CLIPModel.from_pretrained(clip_folder).eval()
    processor = CLIPImageProcessorPil.from_pretrained(clip_folder)
    tokenizer = CLIPTokenizer.from_pretrained(clip_folder)
    for n, (image, caption) in enumerate(zip(images, captions, strict=True)):
        with torch.inference_mode():
            text = tokenizer("A photo depicts " + caption, return_tensors="pt")
            pixels = processor(images=image, return_tensors="pt")
            expected = torch.nn.functional.cosine_similarity(
                model.get_image_features(**pixels).pooler_output,
                model.get_text_features(**text).pooler_output,
            ).item()
        assert scores.values[n] == pytest.approx(max(expected, 0.0), abs=1e-5)


def test_clip_scores_are_clipped_at_zero(clip_folder: Path) -> None:
    scorer = ClipScorer(str(clip_folder))
    images, captions = as_batch(varied_images(10, 64)), [f"{n}" * n for n in range(10)]
    scores = scorer.score(images, captions)
    assert scores.image_embeddings is not None
    assert scores.text_embeddings is not None
    raw = (scores.image_embeddings * scores.text_embeddings).sum(axis=1)
    np.testing.assert_allclose(scores.values, np.maximum(raw, 0), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(scores.image_embeddings, axis=1), 1, atol=1e-5)


def test_a_caption_longer_than_the_text_tower_is_marked(clip_folder: Path) -> None:
    scorer = ClipScorer(str(clip_folder))
    # One token a byte here: 13 for the prefix without its spaces, two marks, 62 left of 77.
    images = as_batch(varied_images(3, 32))
    assert scorer.score(images, ["x" * 62, "x" * 63, "short"]).truncated == (False, True, False)


def test_a_folder_that_is_no_clip_model_is_refused(tmp_path: Path, clip_folder: Path) -> None:
    with pytest.raises(ModelError, match="holds no config"):
        ClipScorer(str(tmp_path))
    (tmp_path / "config.json").write_text((clip_folder / "config.json").read_text())
    with pytest.raises(ModelError, match="cannot load the CLIP model"):
        ClipScorer(str(tmp_path))


def test_a_clip_model_that_lacks_weights_is_refused(tmp_path: Path, clip_folder: Path) -> None:
    shutil.copytree(clip_folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(clip_folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"CLIP model .*no weights visual_projection\.weight"):
        ClipScorer(str(tmp_path))
