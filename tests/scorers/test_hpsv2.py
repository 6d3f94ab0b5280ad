"""HPS v2 against its authors' code (`make_scorer_goldens.py`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reference

from synthvlm.components.component import LoadContext
from synthvlm.errors import ModelError
from synthvlm.scorers import SCORERS
from synthvlm.scorers.hpsv2 import HpsV2Scorer

GOLDEN = reference.goldens("hpsv2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = reference.save_clip_tokenizer(tmp_path_factory.mktemp("hpsv2"))
    reference.save_weights(folder / "v2.safetensors", GOLDEN["shapes"])
    return folder


def test_it_is_what_its_authors_compute(folder: Path) -> None:
    values = {"model": str(folder / "v2.safetensors"), "tokenizer": str(folder)}
    scorer = SCORERS.load("hpsv2", SCORERS.settings("hpsv2", values), LoadContext())
    scores = reference.scored(scorer)
    np.testing.assert_allclose([s.values[0] for s in scores], GOLDEN["values"], atol=2e-6)
    np.testing.assert_allclose(reference.cosines(scores), GOLDEN["values"], atol=2e-6)


def test_what_is_no_such_file_says_how_it_is_made(folder: Path) -> None:
    with pytest.raises(ModelError) as problem:
        SCORERS.load("hpsv2", SCORERS.settings("hpsv2", {}), LoadContext())
    assert str(problem.value) == (
        "xswu/HPSv2 is no file of safetensors: HPS v2 is published as a pickle, which is not "
        "opened: `hf download xswu/HPSv2 HPS_v2.1_compressed.pt --local-dir .`, "
        "`synthvlm convert-weights HPS_v2.1_compressed.pt HPS_v2.1_compressed.safetensors`, then "
        "`--set scoring.hpsv2.model=HPS_v2.1_compressed.safetensors`"
    )
    other = reference.save_weights(folder / "other.safetensors", {"layers.0.weight": [2, 2]})
    with pytest.raises(ModelError, match=r"other\.safetensors holds no weights of HPS v2"):
        HpsV2Scorer(str(other), str(folder))
