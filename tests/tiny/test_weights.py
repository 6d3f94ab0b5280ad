"""The bundled models load through the ordinary classes, draw, and judge."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from synthvlm.captions.writers.questions import TRAINED_PROMPT
from synthvlm.models.vlm import VisionLanguageModel
from synthvlm.scorers.vqa import DEFAULT_PROMPT
from synthvlm.tiny import clip_path, pipeline_path, verifier_path
from synthvlm.tiny.atomic_questions import atomic_questions
from synthvlm.tiny.captions import phrase, sample_claim, sample_scene
from synthvlm.tiny.checker import see
from synthvlm.tiny.world import render
from synthvlm.tiny.wrong_captions import edits

PREFIX = "A photo depicts "


@pytest.fixture(scope="module")
def clip() -> tuple[Any, Any, Any]:
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    return (
        CLIPModel.from_pretrained(clip_path(), dtype=torch.float32).eval(),
        CLIPTokenizer.from_pretrained(clip_path()),
        CLIPImageProcessorPil.from_pretrained(clip_path()),
    )


@pytest.fixture(scope="module")
def pipeline() -> Any:
    from diffusers import DiffusionPipeline

    loaded = DiffusionPipeline.from_pretrained(pipeline_path(), dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def test_weights_are_small_and_whole() -> None:
    root = pipeline_path().parent
    files = [path for path in root.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 24_000_000
    assert {path.suffix for path in files} <= {".jinja", ".json", ".txt", ".md", ".safetensors"}
    assert not any('_name_or_path": "/' in path.read_text() for path in root.rglob("*.json"))
    for folder in (pipeline_path(), clip_path(), verifier_path()):
        card = (folder / "README.md").read_text()
        assert "license: apache-2.0" in card
        assert "python -m experiments.tiny_models" in card


def test_pipeline_draws_and_repeats_itself(pipeline: Any) -> None:
    captions = ["a red star", "a large blue circle on a mint background"]

    def draw() -> list[Image.Image]:
        generators = [torch.Generator().manual_seed(i) for i in range(2)]
        images: list[Image.Image] = pipeline(
            captions, num_inference_steps=20, guidance_scale=3.0, generator=generators
        ).images
        return images

    images = draw()
    assert [image.size for image in images] == [(64, 64), (64, 64)]
    for image, again in zip(images, draw(), strict=True):
        assert np.array_equal(np.array(image), np.array(again))
        assert see(np.array(image)).fault != "background"


def test_clip_tells_changed_captions(clip: tuple[Any, Any, Any]) -> None:
    model, tokenizer, processor = clip
    rng = Random(31)
    claims = [sample_claim(rng) for _ in range(64)]
    scenes = [sample_scene(claim, rng) for claim in claims]
    images = [Image.fromarray(image) for image in render(scenes)]
    texts = [PREFIX + phrase(claim, rng) for claim in claims]
    rows, wrong = [], []
    for i, claim in enumerate(claims):
        for edited in edits(claim, rng).values():
            rows.append(i)
            wrong.append(PREFIX + phrase(edited, rng))
    with torch.no_grad():
        seen = model.get_image_features(**processor(images, return_tensors="pt")).pooler_output
        read = model.get_text_features(
            **tokenizer(texts + wrong, padding=True, return_tensors="pt")
        ).pooler_output
    seen = torch.nn.functional.normalize(seen, dim=-1)
    read = torch.nn.functional.normalize(read, dim=-1)
    right = (seen * read[:64]).sum(1)[rows]
    changed = (seen[rows] * read[64:]).sum(1)
    auc = (right[:, None] > changed[None]).float().mean()
    assert auc > 0.85
    assert (right > changed).float().mean() > 0.9


def test_verifier_answers_and_writes_questions() -> None:
    model = VisionLanguageModel(str(verifier_path()), device="cpu")
    rng = Random(3)
    claims = [sample_claim(rng) for _ in range(24)]
    images = [Image.fromarray(x) for x in render([sample_scene(claim, rng) for claim in claims])]
    captions = [phrase(claim, rng) for claim in claims]
    asked = [DEFAULT_PROMPT.format(caption=caption) for caption in captions]
    own = [answer.likelihood for answer in model.say_yes(images, asked)]
    others = [answer.likelihood for answer in model.say_yes(images, asked[1:] + asked[:1])]
    assert np.mean(np.array(own)[:, None] > np.array(others)) > 0.8
    written = model.answer(
        [None] * 3,
        [TRAINED_PROMPT.format(caption=caption) for caption in captions[:3]],
        max_new_tokens=120,
    )
    assert [text.split("\n") for text in written] == [atomic_questions(c) for c in claims[:3]]


def test_tokenizer_takes_any_text(clip: tuple[Any, Any, Any]) -> None:
    _, tokenizer, _ = clip
    assert tokenizer.model_max_length == 77
    assert len(tokenizer) < 1000
    for text in ("", "\U0001f600", "日本語 ünïcode", "\x00\x07", "a" * 500):
        ids = tokenizer(text, truncation=True)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id
        assert ids[-1] == tokenizer.eos_token_id
        assert len(ids) <= 77
    assert tokenizer.decode(tokenizer("ünïcode ☃").input_ids, skip_special_tokens=True).strip() == (
        "ünïcode ☃"
    )


def test_pipeline_reads_few_tokens(pipeline: Any) -> None:
    rng = Random(4)
    limit = pipeline.tokenizer.model_max_length
    assert limit <= 32
    for _ in range(300):
        assert len(pipeline.tokenizer(phrase(sample_claim(rng), rng))["input_ids"]) <= limit


def test_paths_are_inside_the_package() -> None:
    import synthvlm.tiny

    package = Path(synthvlm.tiny.__file__).parent
    assert pipeline_path().is_relative_to(package)
    assert clip_path().is_relative_to(package)
    assert verifier_path().is_relative_to(package)
