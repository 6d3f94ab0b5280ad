"""One contract for every scorer, and both against other people's code."""

from __future__ import annotations

import functools
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
from synthvlm.components.component import LoadContext
from synthvlm.errors import ModelError
from synthvlm.models.model_files import clip_path
from synthvlm.scorers.base import Scorer, Scores
from synthvlm.scorers.clip import ClipScorer, ClipSettings
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


@pytest.fixture(scope="module")
def aligned_clip(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with its text embeddings turned round: most of its cosines are above 0."""
    folder = tmp_path_factory.mktemp("aligned") / "clip"
    shutil.copytree(clip_folder, folder)
    weights = load_file(folder / "model.safetensors")
    weights["text_projection.weight"] = -weights["text_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@functools.cache
def parts_of(folder: Path) -> tuple[CLIPModel, CLIPImageProcessorPil, CLIPTokenizer]:
    model = CLIPModel.from_pretrained(folder).eval()
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    return model, processor, CLIPTokenizer.from_pretrained(folder)


def by_transformers(folder: Path, image: Image.Image, text: str) -> tuple[torch.Tensor, float]:
    """The embedding of an image and its cosine with a text's, as transformers computes them."""
    model, processor, tokenizer = parts_of(folder)
    with torch.inference_mode():
        pixels = processor(images=image, return_tensors="pt")
        image_features = model.get_image_features(**pixels).pooler_output
        tokens = tokenizer(text, return_tensors="pt")
        text_features = model.get_text_features(**tokens).pooler_output
    cosine = torch.nn.functional.cosine_similarity(image_features, text_features).item()
    return torch.nn.functional.normalize(image_features)[0], cosine


CAPTIONS = [f"{n} things, of which {n} are round" for n in range(12)]


def test_clip_score_equals_a_direct_computation(aligned_clip: Path) -> None:
    images = varied_images(12, 70)
    scores = ClipScorer(str(aligned_clip)).score(as_batch(images), CAPTIONS).values
    pairs = list(zip(images, CAPTIONS, strict=True))
    expected = [by_transformers(aligned_clip, i, "A photo depicts " + c)[1] for i, c in pairs]
    np.testing.assert_allclose(scores, np.maximum(expected, 0), atol=1e-5)
    # The comparison could tell: no two values are the same, nor those without the prefix.
    assert len({round(value, 4) for value in expected if value > 0.01}) >= 10
    plain = ClipScorer(str(aligned_clip), prefix="").score(as_batch(images), CAPTIONS).values
    expected = [by_transformers(aligned_clip, image, caption)[1] for image, caption in pairs]
    np.testing.assert_allclose(plain, np.maximum(expected, 0), atol=1e-5)
    assert np.abs(plain - scores).min() > 1e-4


def circle(n: int) -> np.ndarray:
    """A red, blue or green circle on light grey."""
    y, x = np.mgrid[:64, :64]
    image = np.full((64, 64, 3), 235, np.uint8)
    image[(x - 20 - 4 * n) ** 2 + (y - 32) ** 2 < 14**2] = (
        (200, 30, 30), (30, 60, 200), (30, 150, 60),
    )[n]  # fmt: skip
    return image


def test_clip_score_is_what_it_was() -> None:
    """Computed by `CLIPModel` of transformers 5.23, its tokenizer and processor alone."""
    images = as_batch([Image.fromarray(circle(n)) for n in range(3)])
    captions = ["a red circle", "a blue circle", "a green circle"]
    scorer = ClipScorer.load(ClipSettings(), LoadContext())
    golden = [0.3682440, 0.3976656, 0.2608145]
    np.testing.assert_allclose(scorer.score(images, captions).values, golden, atol=2e-5)
    without = ClipScorer.load(ClipSettings(prefix=""), LoadContext())
    golden = [0.3709563, 0.3927992, 0.2446756]
    np.testing.assert_allclose(without.score(images, captions).values, golden, atol=2e-5)


@pytest.mark.parametrize("size", [(1, 40), (3, 40), (4, 40), (3, 3), (40, 3)])
def test_an_image_of_a_few_rows_has_its_channels_last(
    clip_folder: Path, size: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    (found,) = ClipScorer(str(clip_folder)).embed_images(as_batch([image]))
    expected, _ = by_transformers(clip_folder, image, "stripes")
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_clip_scores_are_clipped_at_zero(clip_folder: Path) -> None:
    scorer = ClipScorer(str(clip_folder))
    images = as_batch(varied_images(10, 64))
    captions = [f"{n}" * n for n in range(9)] + ["x"]
    scores = scorer.score(images, captions)
    assert scores.image_embeddings is not None
    assert scores.text_embeddings is not None
    raw = (scores.image_embeddings * scores.text_embeddings).sum(axis=1)
    assert raw.min() < -0.01
    np.testing.assert_allclose(scores.values, np.maximum(raw, 0), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(scores.image_embeddings, axis=1), 1, atol=1e-5)


def test_a_caption_is_embedded_once_for_all_its_candidates(clip_folder: Path) -> None:
    """In one batch or in several."""
    scorer, embedded = ClipScorer(str(clip_folder)), list[int]()
    text_model = scorer._model.text_model
    text_model.register_forward_hook(lambda _, args, kwargs, out: embedded.append(
        len(kwargs["input_ids"])), with_kwargs=True)  # fmt: skip
    images = as_batch(varied_images(4, 32))
    for captions in (["a", "a", "a", "b"], ["b", "b", "b", "c"], ["c", "a", "b", "d"]):
        scorer.score(images, captions)
    assert sum(embedded) == 4


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


def test_a_control_token_is_scored_as_text() -> None:
    # Read as a token it would end the caption, and what follows would not be scored.
    scorer = ClipScorer(clip_path("tiny"))
    plain = "a red circle"
    vectors, _ = scorer.embed_captions([plain, f"{plain}<|endoftext|> buy now"])
    assert np.abs(vectors[1] - vectors[0]).max() > 0.01
    _, cut = scorer.embed_captions([plain + "<|endoftext|>" * 60])
    assert cut == (True,)
