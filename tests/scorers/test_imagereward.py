"""ImageReward against its authors' code (`make_scorer_goldens.py`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from transformers import BertTokenizer

from synthvlm.components.component import LoadContext
from synthvlm.errors import ModelError
from synthvlm.scorers import SCORERS
from synthvlm.scorers.base import Scorer
from synthvlm.scorers.imagereward import ImageRewardScorer

GOLDEN = reference.goldens("imagereward")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imagereward")
    words = {word: number for number, word in enumerate(reference.WORDPIECES)}
    BertTokenizer(vocab=words).save_pretrained(folder)
    reference.save_weights(folder / "ImageReward.safetensors", GOLDEN["shapes"])
    return folder


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Scorer:
    values = {"model": str(folder / "ImageReward.safetensors"), "tokenizer": str(folder)}
    return SCORERS.load("imagereward", SCORERS.settings("imagereward", values), LoadContext())


def test_it_is_what_its_authors_compute(scorer: Scorer) -> None:
    scores = reference.scored(scorer)
    np.testing.assert_allclose([s.values[0] for s in scores], GOLDEN["values"], rtol=2e-5)
    assert [one.truncated for one in scores] == [(False,), (False,), (True,), (False,)]
    assert scores[0].image_embeddings is None


def test_the_batch_does_not_matter(scorer: Scorer) -> None:
    images = torch.from_numpy(np.stack([reference.image(0), reference.image(0)[::-1]]))
    images = images.permute(0, 3, 1, 2)
    captions = ["the red barn", "x"]
    together = scorer.score(images, captions).values
    alone = [scorer.score(images[n : n + 1], captions[n : n + 1]).values[0] for n in range(2)]
    np.testing.assert_allclose(together, alone, rtol=2e-5)


def test_a_control_token_is_scored_as_text(scorer: Scorer) -> None:
    image = torch.from_numpy(reference.image(0)).permute(2, 0, 1)[None]
    (plain,) = scorer.score(image, ["the red barn"]).values
    (marked,) = scorer.score(image, ["the red barn[SEP]"]).values
    assert scorer._tokens(["barn[SEP]"])["input_ids"][0].count(3) == 1  # type: ignore[attr-defined]
    assert abs(plain - marked) > 1e-3


def test_what_is_no_such_file_says_how_it_is_made(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"convert-weights ImageReward\.pt ImageReward\.safeten"):
        SCORERS.load("imagereward", SCORERS.settings("imagereward", {}), LoadContext())
    other = reference.save_weights(folder / "other.safetensors", {"layers.0.weight": [2, 2]})
    with pytest.raises(ModelError, match=r"other\.safetensors holds no weights of ImageReward"):
        ImageRewardScorer(str(other), str(folder))
