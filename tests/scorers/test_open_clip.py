"""Models of open_clip against open_clip's own code (`make_scorer_goldens.py`)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from safetensors.numpy import load_file, save_file

from synthvlm.components.component import LoadContext
from synthvlm.errors import ModelError
from synthvlm.models.open_clip import open_clip_text
from synthvlm.scorers import SCORERS
from synthvlm.scorers.clip import ClipScorer
from synthvlm.scorers.open_clip import OpenClipScorer
from synthvlm.tiny import clip_path

GOLDEN = reference.goldens("open_clip")


def save(folder: Path, model: dict[str, Any]) -> Path:
    reference.save_clip_tokenizer(folder)
    reference.save_weights(folder / "open_clip_model.safetensors", model["shapes"])
    (folder / "open_clip_config.json").write_text(json.dumps(model["config"]))
    return folder


@pytest.fixture(scope="module", params=[0, 1], ids=["vit", "quick_gelu, squashed"])
def golden(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    model = GOLDEN["models"][request.param]
    return save(tmp_path_factory.mktemp("open_clip"), model), model


def test_it_is_what_open_clip_computes(golden: tuple[Path, dict[str, Any]]) -> None:
    folder, model = golden
    scorer = OpenClipScorer(str(folder), prefix="")
    tokens = [
        scorer._tokenizer(
            open_clip_text(caption), truncation=True, max_length=24, padding="max_length"
        )
        for caption in reference.CAPTIONS
    ]
    ids = [np.array(row["input_ids"]) * row["attention_mask"] for row in tokens]
    np.testing.assert_array_equal(ids, model["tokens"])
    scores = reference.scored(scorer)
    np.testing.assert_allclose(reference.cosines(scores), model["values"], atol=2e-6)
    values = [one.values[0] for one in scores]
    np.testing.assert_allclose(values, np.maximum(model["values"], 0), atol=2e-6)
    assert max(values) > 0.05
    assert [one.truncated for one in scores] == [(False,), (False,), (True,), (False,)]


def test_weights_below_text_are_the_same(
    golden: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Where a configuration says `custom_text`, the text tower's names begin with `text.`."""
    folder, model = golden
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(folder / "open_clip_model.safetensors")
    own = ("visual.", "logit_scale")
    named = {n if n.startswith(own) else f"text.{n}": weight for n, weight in weights.items()}
    save_file(
        {**named, "logit_bias": np.float32([-10.0])}, tmp_path / "open_clip_model.safetensors"
    )
    scores = reference.scored(OpenClipScorer(str(tmp_path), prefix=""))
    np.testing.assert_allclose(reference.cosines(scores), model["values"], atol=2e-6)


def test_a_recipe_names_it_as_open_clip_does(tmp_path: Path) -> None:
    settings = SCORERS.settings("open_clip", {"model": "hf-hub:org/name"})
    assert settings.model == "org/name"  # type: ignore[attr-defined]
    folder = save(tmp_path / "model", GOLDEN["models"][0])
    settings = SCORERS.settings("open_clip", {"model": f"local-dir:{folder}"})
    scorer = SCORERS.load("open_clip", settings, LoadContext())
    plain = reference.scored(OpenClipScorer(str(folder), prefix="A photo depicts "))
    assert [one.values for one in reference.scored(scorer)] == [one.values for one in plain]


@pytest.mark.parametrize(
    ("part", "setting", "reason"),
    [
        ("vision_cfg", {"timm_model_name": "convnext_base"}, r"another library \(convnext_base\)"),
        ("vision_cfg", {"layers": [3, 4, 6, 3]}, "its vision tower is a ResNet"),
        ("vision_cfg", {"attentional_pool": True}, "attentional_pool is True"),
        ("text_cfg", {"hf_model_name": "roberta-base"}, r"another library \(roberta-base\)"),
        ("text_cfg", {"pool_type": "last"}, "pool_type is 'last'"),
        ("text_cfg", {"norm_kwargs": {"eps": 1e-6}}, "norm_kwargs is {'eps': 1e-06}"),
        ("model_cfg", {"multimodal_cfg": {"layers": 1}}, "multimodal_cfg is"),
        ("preprocess_cfg", {"resize_mode": "longest"}, "its images are resized by longest"),
    ],
)
def test_another_architecture_is_refused(
    part: str, setting: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    config = json.loads(json.dumps(GOLDEN["models"][0]["config"]))
    where = config if part in config else config["model_cfg"]
    where[part].update(setting)
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=f"no model of CLIP's two plain transformers: .*{reason}"):
        OpenClipScorer(str(tmp_path))


def test_what_is_damaged_or_missing_is_refused(tmp_path: Path) -> None:
    model = GOLDEN["models"][0]
    folder = save(tmp_path / "model", model)
    with pytest.raises(ModelError, match=r"is a model of open_clip.*scoring\.open_clip\.model="):
        ClipScorer(str(folder))
    shapes = dict(model["shapes"])
    del shapes["visual.proj"]
    reference.save_weights(folder / "open_clip_model.safetensors", shapes)
    with pytest.raises(ModelError, match=r"it has no weights visual_projection\.weight"):
        OpenClipScorer(str(folder))
    shapes = {**model["shapes"], "visual.extra": [2]}
    reference.save_weights(folder / "open_clip_model.safetensors", shapes)
    with pytest.raises(ModelError, match=r"its weights visual\.extra have no place in it"):
        OpenClipScorer(str(folder))
    reference.save_weights(
        folder / "open_clip_model.safetensors", {**shapes, "visual.proj": [32, 8]}
    )
    with pytest.raises(ModelError, match=r"visual_projection\.weight are of shape \[8, 32\], not"):
        OpenClipScorer(str(folder))
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"holds no open_clip_model\.safetensors.*convert-weights"):
        OpenClipScorer(str(folder))
    save(folder, model)
    (folder / "open_clip_config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot load the open_clip model"):
        OpenClipScorer(str(folder))


def test_the_tokenizer_may_be_anothers(tmp_path: Path) -> None:
    model = GOLDEN["models"][0]
    folder = save(tmp_path / "model", model)
    expected = [one.values for one in reference.scored(OpenClipScorer(str(folder)))]
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(ModelError, match="no tokenizer of CLIP's kind: set `tokenizer`"):
        OpenClipScorer(str(folder))
    words = reference.save_clip_tokenizer(tmp_path / "words")
    scorer = OpenClipScorer(str(folder), tokenizer=str(words))
    assert [one.values for one in reference.scored(scorer)] == expected
    with pytest.raises(ModelError, match=r"has \d+ tokens, the text tower 519"):
        OpenClipScorer(str(folder), tokenizer=str(clip_path()))
