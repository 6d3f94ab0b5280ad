"""PickScore against the code of its model card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

import random_models
from synthvlm.components.component import LoadContext
from synthvlm.errors import ModelError
from synthvlm.scorers import SCORERS
from synthvlm.scorers.pickscore import PickScoreScorer

CAPTIONS = ["a red barn", "the lake", "two dogs", "x" * 80]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = random_models.save_clip(tmp_path_factory.mktemp("pickscore"))
    weights = load_file(folder / "model.safetensors")
    weights["logit_scale"] = torch.tensor(4.5)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def by_the_model_card(folder: Path, caption: str, image: np.ndarray) -> float:
    """`calc_probs` of the model card of yuvalkirstain/PickScore_v1, up to the scores."""
    model, tokenizer = (
        CLIPModel.from_pretrained(folder).eval(),
        CLIPTokenizer.from_pretrained(folder),
    )
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(
        images=[Image.fromarray(image)], return_tensors="pt"
    )
    tokens = tokenizer(caption, padding=True, truncation=True, max_length=77, return_tensors="pt")
    with torch.no_grad():
        image_embs = model.get_image_features(**pixels).pooler_output
        image_embs = image_embs / torch.norm(image_embs, dim=-1, keepdim=True)
        text_embs = model.get_text_features(**tokens).pooler_output
        text_embs = text_embs / torch.norm(text_embs, dim=-1, keepdim=True)
        return float((model.logit_scale.exp() * (text_embs @ image_embs.T)[0]).item())


def test_it_is_what_the_model_card_computes(folder: Path) -> None:
    values = {"model": str(folder), "processor": str(folder)}
    scorer = SCORERS.load("pickscore", SCORERS.settings("pickscore", values), LoadContext())
    scores = reference.scored(scorer, CAPTIONS)
    golden = [by_the_model_card(folder, c, reference.image(n)) for n, c in enumerate(CAPTIONS)]
    np.testing.assert_allclose([one.values[0] for one in scores], golden, atol=1e-4)
    assert min(np.abs(golden)) > 0.1
    assert [one.truncated for one in scores] == [(False,)] * 3 + [(True,)]


def test_a_processor_that_is_not_there_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot load the PickScore model"):
        PickScoreScorer(str(folder), str(tmp_path))
