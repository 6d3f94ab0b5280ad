"""Models that were changed in place: of a training, and of an evaluation."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from changed_weights import change_a_tensor
from synthvlm.errors import EvaluationError, RunFolderError
from synthvlm.evaluation.evaluation import evaluate_command
from synthvlm.evaluation.settings import EvaluationSettings
from synthvlm.models.model_files import clip_path, language_path
from synthvlm.progress.display import SilentProgress
from synthvlm.training.checkpoints import complete_checkpoints
from synthvlm.training.recipe import TrainingRecipe
from synthvlm.training.sources import ImageFiles
from synthvlm.training.train import train


@pytest.fixture(scope="module")
def made(
    recipes: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """Stage 1 on copies of the embedded models: its folder, and the recipe's values."""
    folder = tmp_path_factory.mktemp("changed")
    parts = {
        "vision_tower": shutil.copytree(clip_path("tiny"), folder / "tower"),
        "language_model": shutil.copytree(language_path("tiny"), folder / "words"),
    }
    values = {**recipes["pretrain"], "model": {key: str(path) for key, path in parts.items()}}
    train(TrainingRecipe.from_values(values), folder / "out")
    return folder, values


def interrupted(out: Path) -> None:
    """As if the training had been killed after a checkpoint."""
    (out / "done.json").unlink()
    shutil.rmtree(out / "model")
    assert complete_checkpoints(out / "checkpoints")


@pytest.mark.parametrize("is_done", [True, False])
@pytest.mark.parametrize("key", ["vision_tower", "language_model"])
def test_a_training_does_not_go_on_with_another_part(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, key: str, is_done: bool
) -> None:
    folder, values = made
    recipe = TrainingRecipe.from_values(values)
    out = Path(shutil.copytree(folder / "out", tmp_path / "out"))
    if not is_done:
        interrupted(out)
    part = Path(values["model"][key])
    whole = shutil.copytree(part, tmp_path / "whole")
    try:
        if key == "vision_tower":
            change_a_tensor(part / "model.safetensors", "vision_model")
        else:
            (part / "chat_template.jinja").write_text("{{ messages }}")
        with pytest.raises(RunFolderError, match=f"the content of model.{key} changed; take"):
            train(recipe, out)
    finally:
        shutil.rmtree(part)
        shutil.copytree(whole, part)
    assert train(recipe, out).steps == 6  # it is what it was


def test_a_training_does_not_go_on_from_another_start(
    made: tuple[Path, dict[str, Any]], recipes: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    start = Path(shutil.copytree(made[0] / "out", tmp_path / "stage-1"))
    recipe = TrainingRecipe.from_values({**recipes["full"], "model": {"start": str(start)}})
    out = tmp_path / "out"
    train(recipe, out)
    change_a_tensor(start / "model" / "model.safetensors")
    with pytest.raises(RunFolderError, match=r"the content of model\.start changed"):
        train(recipe, out)
    shutil.rmtree(start / "model")
    assert train(recipe, out).seconds == 0  # done, it needs its start no more
    interrupted(out)
    with pytest.raises(RunFolderError, match=r"the content of model\.start changed"):
        train(recipe, out)


@pytest.mark.parametrize("is_done", [True, False])
def test_a_training_does_not_go_on_with_other_images(
    recipes: dict[str, dict[str, Any]], pairs: Path, tmp_path: Path, is_done: bool
) -> None:
    data, out = Path(shutil.copytree(pairs, tmp_path / "data")), tmp_path / "out"
    recipe = TrainingRecipe.from_values({**recipes["pretrain"], "data": [{"path": str(data)}]})
    train(recipe, out)
    if not is_done:
        interrupted(out)
    image, other = data / "images" / "0" / "0.png", data / "images" / "0" / "1.png"
    whole = image.read_bytes()
    info = image.stat()
    image.write_bytes(other.read_bytes())
    os.utime(image, ns=(info.st_atime_ns, info.st_mtime_ns))
    with pytest.raises(RunFolderError, match="another training: the images of the data changed"):
        train(recipe, out)
    image.unlink()
    if is_done:
        assert train(recipe, out).seconds == 0  # it needs its images no more
    else:
        with pytest.raises(RunFolderError, match="the images of the data changed"):
            train(recipe, out)
    image.write_bytes(whole)
    assert train(recipe, out).steps == 6  # the same content, at another time


def test_images_are_read_again_only_where_they_may_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_bytes(file.name.encode())
    paths = [str(file) for file in files]
    images = ImageFiles.read(paths)
    assert not images.is_of(paths), "a file that is this new could change unseen"
    monkeypatch.setattr("synthvlm.training.sources.SETTLED_NS", 0)
    settled = ImageFiles.read(paths)
    assert settled.content == images.content
    assert settled.is_of(paths)
    assert not settled.is_of(paths[:1])
    files[0].write_bytes(b"b")
    assert not settled.is_of(paths)
    assert ImageFiles.read(paths).content != settled.content


def test_another_start_is_noticed_where_the_check_of_the_data_is_gone(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, values = made
    out = Path(shutil.copytree(folder / "out", tmp_path / "out"))
    interrupted(out)
    (out / "data.json").unlink()
    other = {**values, "model": {**values["model"], "language_model": "tiny"}}
    with pytest.raises(RunFolderError, match=r"another training: model\.language_model changed"):
        train(TrainingRecipe.from_values(other), out)
    assert train(TrainingRecipe.from_values(values), out).steps == 6


def test_an_evaluation_does_not_keep_answers_of_another_projector(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    model = Path(shutil.copytree(made[0] / "out" / "model", tmp_path / "model"))
    questions = tmp_path / "mine.jsonl"
    questions.write_text(json.dumps({"question": "What is it?", "answer": "a circle"}) + "\n")

    def evaluate() -> None:
        evaluate_command(
            str(model),
            EvaluationSettings(questions=str(questions), max_new_tokens=4, device="cpu"),
            out=str(tmp_path / "answers"),
            progress=SilentProgress(),
        )

    evaluate()
    evaluate()
    change_a_tensor(model / "model.safetensors", "multi_modal_projector")
    with pytest.raises(EvaluationError, match="of an evaluation with another model"):
        evaluate()
