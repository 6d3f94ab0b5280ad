"""LAION's aesthetic predictors against simple-aesthetics-predictor (`make_scorer_goldens.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from safetensors.numpy import load_file, save_file
from transformers import CLIPImageProcessorPil

from synthvlm.components.component import LoadContext
from synthvlm.errors import ModelError
from synthvlm.scorers import SCORERS
from synthvlm.scorers.aesthetic import AestheticScorer

MODELS = reference.goldens("aesthetic")["models"]


def save(folder: Path, kind: str) -> Path:
    """A predictor as it is published, with its own type of model and class."""
    model = MODELS[kind]
    names = {"model_type": "aesthetics_predictor", "architectures": [kind]}
    (folder / "config.json").write_text(json.dumps({**model["config"], **names}))
    reference.save_weights(folder / "model.safetensors", model["shapes"])
    side = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=side).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=sorted(MODELS))
def predictor(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    return save(tmp_path_factory.mktemp("aesthetic"), request.param), MODELS[request.param]


def values(scorer: Any) -> list[float]:
    return [one.values[0] for one in reference.scored(scorer)]


def test_it_is_what_the_source_computes(predictor: tuple[Path, dict[str, Any]]) -> None:
    folder, model = predictor
    settings = SCORERS.settings("aesthetic", {"model": str(folder)})
    scorer = SCORERS.load("aesthetic", settings, LoadContext())
    np.testing.assert_allclose(values(scorer), model["values"], atol=1e-5)
    assert scorer.score(torch.zeros(2, 3, 40, 40, dtype=torch.uint8), ["a", "b"]).values.shape == (
        2,
    )


def test_a_head_of_its_own_is_the_same(
    predictor: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """As LAION's files hold it; and the CLIP model without a head."""
    folder, model = predictor
    weights = load_file(folder / "model.safetensors")
    clip = {n: w for n, w in weights.items() if n.startswith(("vision_model", "visual_proj"))}
    head = {n.removeprefix("predictor."): weights[n] for n in weights.keys() - clip.keys()}
    save_file(head, tmp_path / "head.safetensors")
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    save_file(clip, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"holds no aesthetic head.*scoring\.aesthetic\.head="):
        AestheticScorer(str(tmp_path))
    with pytest.raises(ModelError, match=r"`synthvlm convert-weights \S+head\.pth HEAD\.safeten"):
        AestheticScorer(str(tmp_path), head=str(tmp_path / "head.pth"))
    scorer = AestheticScorer(str(tmp_path), head=str(tmp_path / "head.safetensors"))
    np.testing.assert_allclose(values(scorer), model["values"], atol=1e-5)


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        ({"layers.0.weight": [4, 24], "layers.0.bias": [4]}, "a head of more than one number"),
        ({"layers.0.weight": [1, 8], "layers.0.bias": [1]}, "no head for embeddings of 24 numbers"),
        ({"layers.0.weight": [1, 24]}, "no head for embeddings"),
        ({"layers.0.weight": [1, 24], "layers.1.bias": [1]}, "no head of a known kind"),
        ({"running_mean": [1]}, "no head of a known kind"),
    ],
)
def test_another_head_is_refused(
    shapes: dict[str, list[int]], problem: str, tmp_path: Path
) -> None:
    folder = save(tmp_path, "AestheticsPredictorV1")
    head = reference.save_weights(tmp_path / "head.safetensors", shapes)
    with pytest.raises(ModelError, match=problem):
        AestheticScorer(str(folder), head=str(head))
