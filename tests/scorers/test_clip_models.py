"""Every type of CLIP model of transformers, with random weights, against its own forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from PIL import Image
from transformers import (
    AltCLIPConfig,
    AltCLIPModel,
    AutoTokenizer,
    BertTokenizer,
    ChineseCLIPConfig,
    ChineseCLIPImageProcessorPil,
    ChineseCLIPModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    MetaClip2Config,
    MetaClip2Model,
    XLMRobertaTokenizer,
)

import random_models
from synthvlm.errors import ModelError
from synthvlm.scorers.clip import ClipScorer

SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip
#: Models, their configurations, and places and tokens of a text.
KINDS: dict[str, tuple[Any, Any, int, int]] = {
    "clip": (CLIPModel, CLIPConfig, 248, 248),  # as Long-CLIP has it
    "chinese_clip": (ChineseCLIPModel, ChineseCLIPConfig, 60, 52),
    "altclip": (AltCLIPModel, AltCLIPConfig, 90, 77),
    "metaclip_2": (MetaClip2Model, MetaClip2Config, 77, 77),
}


def save_tokenizer(kind: str, folder: Path) -> None:
    if kind == "clip":
        reference.save_clip_tokenizer(folder, 248)
    elif kind == "chinese_clip":
        words = {word: number for number, word in enumerate(reference.WORDPIECES)}
        BertTokenizer(vocab=words).save_pretrained(folder)
    else:
        marks = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
        letters = [(letter, -3.0) for letter in reference.LETTERS]
        XLMRobertaTokenizer(vocab=[*marks, *letters]).save_pretrained(folder)


@pytest.fixture(scope="module", params=KINDS)
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    model, config, places, _ = KINDS[kind]
    save_tokenizer(kind, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = {
        **SMALL, "vocab_size": len(tokenizer), "max_position_embeddings": places, "project_dim": 32,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    settings = config(text_config=text, vision_config=vision, projection_dim=24)
    settings.initializer_factor = settings.initializer_range = 1.0
    built = model(settings)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    built.save_pretrained(folder)
    processor = ChineseCLIPImageProcessorPil if kind == "chinese_clip" else CLIPImageProcessorPil
    side = {"height": 32, "width": 32}
    size = side if kind == "chinese_clip" else {"shortest_edge": 32}
    processor(size=size, crop_size=side).save_pretrained(folder)
    return kind, folder


def by_transformers(kind: str, folder: Path, captions: list[str]) -> list[float]:
    model, _, _, most = KINDS[kind]
    loaded = model.from_pretrained(folder).eval()
    processor = ChineseCLIPImageProcessorPil if kind == "chinese_clip" else CLIPImageProcessorPil
    pixels = processor.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    cosines = []
    for number, caption in enumerate(captions):
        image = Image.fromarray(reference.image(number))
        tokens = tokenizer([caption], truncation=True, max_length=most, return_tensors="pt")
        with torch.no_grad():
            output = loaded(**tokens, **pixels(images=image, return_tensors="pt"))
        cosines.append(float((output.image_embeds * output.text_embeds).sum()))
    return cosines


def test_it_is_what_transformers_computes(saved: tuple[str, Path]) -> None:
    kind, folder = saved
    captions = ["the red barn", "a barn and the red barn", "red and " * 90, "re"]
    scores = reference.scored(ClipScorer(str(folder), prefix=""), captions)
    golden = by_transformers(kind, folder, captions)
    np.testing.assert_allclose(reference.cosines(scores), golden, atol=5e-6)
    assert len({round(value, 3) for value in golden}) == 4
    np.testing.assert_allclose([s.values[0] for s in scores], np.maximum(golden, 0), atol=5e-6)
    assert [s.truncated for s in scores] == [(False,), (False,), (True,), (False,)]


def test_a_model_of_another_type_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    text = CLIPTextConfig(**SMALL, vocab_size=10, bos_token_id=8, eos_token_id=9, pad_token_id=9)
    CLIPTextModelWithProjection(text).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"'clip_text_model', not a CLIP model \(clip, chinese_"):
        ClipScorer(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(ModelError, match=r"of type 'siglip', not .*`--set scoring\.siglip\.model="):
        ClipScorer(str(tmp_path))


def test_a_model_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    """transformers makes an empty tokenizer then, to which all captions are the same."""
    folder = random_models.save_clip(tmp_path / "clip")
    for file in folder.iterdir():
        if file.name.startswith(("vocab", "merges", "tokenizer", "special")):
            file.unlink()
    with pytest.raises(ModelError, match="it has no tokenizer"):
        ClipScorer(str(folder))
