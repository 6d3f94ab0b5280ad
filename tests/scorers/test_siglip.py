"""SigLIP of both kinds, with random weights, against the forward pass of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

import random_models
from synthvlm.components.component import LoadContext
from synthvlm.errors import ModelError
from synthvlm.scorers import SCORERS
from synthvlm.scorers.siglip import SiglipScorer

WIDTH, TOKENS = 32, 32
LETTERS = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\u2581", *"abcdefghijklmnopqrstuvwxyz"]
CAPTIONS = ["a red barn on the hill", "a blue boat", "a red barn on the hill", "the lake"]


def save_siglip(folder: Path, kind: str) -> Path:
    """A SigLIP model of one image size, or of any."""
    torch.manual_seed(0)
    vocabulary = {letter: n for n, letter in enumerate(LETTERS)}
    tokenizer = Siglip2Tokenizer(vocabulary, [], padding_side="right", model_max_length=TOKENS)
    shared = {
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text = {
        **shared,
        "vocab_size": len(LETTERS),
        "max_position_embeddings": TOKENS,
        "projection_size": WIDTH,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 1,
    }
    model: Any
    if kind == "siglip":
        vision = {**shared, "image_size": 32, "patch_size": 8}
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
        processor = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    else:
        vision = {**shared, "num_patches": 16, "patch_size": 8}
        model = Siglip2Model(Siglip2Config(text_config=text, vision_config=vision))
        processor = Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)
    for module in (model, tokenizer, processor):
        module.save_pretrained(folder)
    return folder


# SigLIP 2 of a fixed size has the type of the first SigLIP; `siglip2` is NaFlex.
@pytest.fixture(scope="module", params=["siglip", "siglip2"], ids=["fixed size", "NaFlex"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_siglip(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def scorer(folder: Path) -> SiglipScorer:
    return SiglipScorer(str(folder))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (4, 3, 48, 40), dtype=torch.uint8, generator=generator)


def by_transformers(folder: Path, images: torch.Tensor, captions: list[str]) -> list[float]:
    """The sigmoid of the logits of each pair, as the documentation of transformers has it."""
    kind: tuple[Any, Any] = (SiglipModel, SiglipImageProcessorPil)
    if "siglip2" in folder.name:
        kind = (Siglip2Model, Siglip2ImageProcessorPil)
    model = kind[0].from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(
        captions, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
    )
    pictures = [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).numpy()]
    pixels = kind[1].from_pretrained(folder)(images=pictures, return_tensors="pt")
    with torch.no_grad():
        logits = model(input_ids=tokens["input_ids"], **pixels).logits_per_image
    return [float(value) for value in torch.sigmoid(logits).diagonal()]


def test_it_is_what_transformers_computes(
    folder: Path, scorer: SiglipScorer, images: torch.Tensor
) -> None:
    scores = scorer.score(images, CAPTIONS)
    golden = by_transformers(folder, images, CAPTIONS)
    np.testing.assert_allclose(scores.values, golden, atol=1e-6)
    assert scores.values.dtype == np.float64
    assert len(set(golden)) == len(golden)
    assert all(0 <= value <= 1 for value in scores.values)
    assert scores.image_embeddings is not None
    assert scores.text_embeddings is not None
    for vectors in (scores.image_embeddings, scores.text_embeddings):
        assert vectors.shape == (4, WIDTH)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert scores.truncated == (False,) * 4


@pytest.mark.parametrize("size", [(16, 64), (70, 18), (9, 9), (96, 64)])
def test_an_image_of_any_shape_is_what_transformers_makes_of_it(
    folder: Path, scorer: SiglipScorer, size: tuple[int, int]
) -> None:
    """NaFlex keeps its shape, in as many patches as fit."""
    generator = torch.Generator().manual_seed(2)
    image = torch.randint(256, (1, 3, *size), dtype=torch.uint8, generator=generator)
    (golden,) = by_transformers(folder, image, CAPTIONS[:1])
    assert scorer.score(image, CAPTIONS[:1]).values[0] == pytest.approx(golden, abs=1e-6)


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_an_image_of_a_few_rows_has_its_channels_last(
    folder: Path, scorer: SiglipScorer, images: torch.Tensor, rows: int
) -> None:
    narrow, caption = images[:1, :, :rows], CAPTIONS[:1]
    (golden,) = by_transformers(folder, narrow, caption)
    assert scorer.score(narrow, caption).values[0] == pytest.approx(golden, abs=1e-6)


def test_the_batch_and_the_case_do_not_matter(scorer: SiglipScorer, images: torch.Tensor) -> None:
    together = scorer.score(images, CAPTIONS).values
    alone = [scorer.score(images[n : n + 1], CAPTIONS[n : n + 1]).values[0] for n in range(4)]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    loud = scorer.score(images, [caption.upper() for caption in CAPTIONS])
    np.testing.assert_allclose(together, loud.values, atol=1e-6)


def test_a_long_caption_is_cut_off_and_marked(scorer: SiglipScorer, images: torch.Tensor) -> None:
    scores = scorer.score(images[:2], ["x" * (TOKENS + 1), "x" * TOKENS])
    assert scores.truncated == (True, False)


def test_a_recipe_names_it(folder: Path) -> None:
    settings = SCORERS.settings("siglip", {"model": str(folder), "weight": 0.5})
    assert isinstance(SCORERS.load("siglip", settings, LoadContext()), SiglipScorer)
    assert SCORERS["siglip"].default is None


def test_another_model_is_refused(tmp_path: Path) -> None:
    clip = random_models.save_clip(tmp_path / "clip")
    with pytest.raises(ModelError, match="is a model of type 'clip': not a SigLIP model"):
        SiglipScorer(str(clip))
    with pytest.raises(ModelError, match=r"holds no config.json: not a SigLIP model"):
        SiglipScorer(str(tmp_path))
