"""A path that is not there never becomes an id of the hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthvlm.captions.readers.sources import read_captions
from synthvlm.errors import CaptionSourceError, ModelError
from synthvlm.generators.pipelines import load_pipeline
from synthvlm.models.model_files import model_identity, not_a_hub_id
from synthvlm.models.pretrained import model_config

PATHS = [
    "./models/x", "models/x", "models/a/x", "../x", "~/x", "~user/x", "/models/x", "models/x/",
    "models\\x", "C:\\models\\x", "C:/models/x", "x.safetensors", "other/x.bin", "a/b/c",
    "..x/y",
    "file:///models/x", "org /x",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work" / "models").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_is_not_there_is_one_line(path: str) -> None:
    calls = (
        model_identity,
        lambda name: model_config("CLIP", name, None),
        lambda name: load_pipeline(name, dtype="float32"),
        lambda name: list(read_captions(name, name="x", format="huggingface", normalize=str)),
    )
    for call in calls:
        with pytest.raises((ModelError, CaptionSourceError)) as caught:
            call(path)
        assert "no such" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_line_says_what_to_do(tmp_path: Path) -> None:
    assert not_a_hub_id("models/x") == (
        "models/x: no such folder, although models/ is one here: correct the path; if you mean "
        "models/x of the hub, download it first: `hf download models/x`"
    )
    assert "`hf download --repo-type dataset models/x`" in str(not_a_hub_id("models/x", "dataset"))
    (tmp_path / "x").mkdir()
    assert not_a_hub_id("~/x") == f"~/x: no such file or folder: write {tmp_path}/x"


def test_ids_of_the_hub_and_what_is_here_pass(tmp_path: Path) -> None:
    (tmp_path / "cache" / "models--models--cached").mkdir(parents=True)
    (tmp_path / "work" / "models" / "here").mkdir()
    for name in ("gpt2", "org/name-1.0", "org/_x", "models/cached", "models/here", "./models/here"):
        assert not_a_hub_id(name) is None
