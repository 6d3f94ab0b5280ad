"""A training folder in which something is damaged: what is sound goes on, the rest is named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from synthvlm.errors import RunFolderError
from synthvlm.progress.display import SilentProgress
from synthvlm.training.checkpoints import complete_checkpoints
from synthvlm.training.recipe import TrainingRecipe
from synthvlm.training.train import train


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def recipe(recipes: dict[str, dict[str, Any]]) -> TrainingRecipe:
    """Checkpoints of steps 2, 4 and 6, of which the last two are kept."""
    return TrainingRecipe.from_values({**recipes["pretrain"], "checkpoints_kept": 2})


@pytest.fixture(scope="module")
def undisturbed(recipe: TrainingRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    train(recipe, out)
    return out


@pytest.fixture
def out(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy that is not done yet."""
    shutil.copytree(undisturbed, tmp_path / "out")
    (tmp_path / "out" / "done.json").unlink()
    return tmp_path / "out"


def steps(out: Path) -> list[int]:
    return [step for step, _ in complete_checkpoints(out / "checkpoints")]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes(255 - byte for byte in data[-9:]))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("trainer_state.json", cut),
        ("trainer_state.json", garble),
        ("trained.safetensors", garble),
        ("optimizer.pt", cut),
        ("rng_state.pth", Path.unlink),
        ("complete", cut),
    ],
)
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_goes_on(
    recipe: TrainingRecipe, undisturbed: Path, out: Path, name: str, damage: Any
) -> None:
    assert steps(out) == [4, 6]
    damage(out / "checkpoints" / "checkpoint-6" / name)
    progress = Notes()
    assert train(recipe, out, progress=progress).resumed_at == 4
    assert [line for line in progress.lines if "checkpoint-6 was damaged" in line and name in line]
    whole, again = (load_file(one / "model" / "model.safetensors") for one in (undisturbed, out))
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    assert steps(out) == [4, 6]


def test_where_no_checkpoint_is_sound_nothing_begins_again_by_itself(
    recipe: TrainingRecipe, out: Path
) -> None:
    for path in (out / "checkpoints").iterdir():
        cut(path / "trainer_state.json")
    line = r"checkpoint-6 is damaged: trainer_state\.json"
    with pytest.raises(RunFolderError, match=line) as found:
        train(recipe, out)
    assert f"delete {out / 'checkpoints'}, and" in str(found.value)
    assert "\n" not in str(found.value)
    assert steps(out) == [4, 6]
    shutil.rmtree(out / "checkpoints")
    assert train(recipe, out).resumed_at == 0


@pytest.mark.parametrize(
    ("name", "damage"), [("data.json", cut), ("data.json", garble), ("samples.arrow", cut)]
)
def test_a_damaged_file_of_the_data_can_be_deleted(
    recipe: TrainingRecipe, out: Path, name: str, damage: Any
) -> None:
    damage(out / name)
    with pytest.raises(RunFolderError, match=f"{name} is damaged: delete it, and the same command"):
        train(recipe, out)
    (out / name).unlink()
    assert train(recipe, out).resumed_at == 6


@pytest.mark.parametrize("text", ["{", "[]", "{}", "null"])
def test_a_damaged_mark_of_the_end_can_be_deleted(
    recipe: TrainingRecipe, out: Path, text: str
) -> None:
    (out / "done.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"done\.json is damaged: delete it, and the same"):
        train(recipe, out)


def test_a_damaged_recipe_is_named(recipe: TrainingRecipe, out: Path) -> None:
    (out / "training.yaml").write_text("stage: {")
    with pytest.raises(RunFolderError, match=r"training\.yaml .*: put it back, or take another"):
        train(recipe, out)
    (out / "training.yaml").write_text(recipe.to_yaml())
    assert train(recipe, out).resumed_at == 6


@pytest.mark.parametrize("line", [b"\0" * 40, b"[]", b"{}", b'{"step": 3, "loss": null}'])
def test_a_damaged_row_of_the_log_is_named(recipe: TrainingRecipe, out: Path, line: bytes) -> None:
    log = out / "log.jsonl"
    lines = log.read_bytes().split(b"\n")
    log.write_bytes(b"\n".join([*lines[:2], line, *lines[3:]]))
    with pytest.raises(RunFolderError, match=r"log\.jsonl, line 3 is damaged: delete that line"):
        train(recipe, out)
    log.write_bytes(b"\n".join([*lines[:2], *lines[3:]]))
    assert train(recipe, out).resumed_at == 6
