"""Bad input: one line each, before anything is trained."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from synthvlm.errors import EngineError, OutOfMemoryError, SynthVLMError
from synthvlm.progress.display import SilentProgress
from synthvlm.training.folder import TrainingFolder
from synthvlm.training.recipe import TRAINING_RECIPES, TrainingRecipe, changed_settings
from synthvlm.training.runtime import explained
from synthvlm.training.sources import DataFacts
from synthvlm.training.train import train


def refused(values: dict[str, Any], out: Path) -> str:
    with pytest.raises(SynthVLMError) as found:
        train(TrainingRecipe.from_values(values), out)
    assert "\n" not in str(found.value)
    return str(found.value)


@pytest.mark.parametrize("name", sorted(TRAINING_RECIPES.lines()))
def test_builtin_recipes_load_and_read_back(name: str) -> None:
    with pytest.raises(SynthVLMError, match="--data RUN_OR_DATASET"):
        TrainingRecipe.load(name)
    recipe = TrainingRecipe.load(name, data=["run"])
    assert recipe.optimisation.global_batch_size % recipe.optimisation.device_batch_size == 0
    assert (
        changed_settings(TrainingRecipe.from_values(recipe.model_dump(mode="json")), recipe) == []
    )
    assert TRAINING_RECIPES.text(name).startswith("# ")


def test_hyper_parameters_of_llava() -> None:
    """LLaVA-1.5's own, as its scripts have them (stage 1, stage 2, LoRA)."""
    names = ("llava-7b-pretrain", "llava-13b-finetune", "llava-7b-finetune-lora")
    one, two, lora = (TrainingRecipe.load(name, data=["run"]) for name in names)
    found = [(r.optimisation.global_batch_size, r.optimisation.learning_rate) for r in (one, two)]
    assert found == [(256, 1e-3), (128, 2e-5)]
    assert (one.stage, one.prompt, one.image) == ("pretrain", "plain", "crop")
    assert (two.stage, two.prompt, two.image, two.grouping) == ("finetune", "v1", "pad", True)
    for recipe in (one, two, lora):
        options = recipe.optimisation
        assert (options.epochs, options.schedule, options.warmup_share) == (1, "cosine", 0.03)
        assert (options.weight_decay, options.max_tokens) == (0.0, 2048)
        assert recipe.model.vision_feature_layer == -2
    assert lora.lora is not None
    assert (lora.lora.rank, lora.lora.alpha) == (128, 256)
    options = lora.optimisation
    assert (options.learning_rate, options.projector_learning_rate) == (2e-4, 2e-5)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("optimisation.learing_rate=1", "unknown key, did you mean 'learning_rate'?"),
        ("stage=pretraining", "stage: "),
        ("optimisation.device_batch_size=3", "no multiple of device_batch_size 3"),
        ("lora.rank=4", "pretrain trains the projector alone"),
        ("optimisation.learning_rate=-1", "greater than 0"),
    ],
)
def test_bad_settings(change: str, line: str) -> None:
    with pytest.raises(SynthVLMError) as found:
        TrainingRecipe.load("tiny-pretrain", data=["run"], overrides=[change])
    assert line in str(found.value)
    assert "\n" not in str(found.value)


def test_unknown_recipe() -> None:
    with pytest.raises(SynthVLMError, match="did you mean 'tiny-pretrain'"):
        TrainingRecipe.load("tiny-pretrian", data=["run"])


def test_bad_data(recipes: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    def with_data(name: str, text: str | None) -> dict[str, Any]:
        path = tmp_path / name
        if text is not None:
            path.write_text(text)
        return {**recipes["pretrain"], "data": [{"path": str(path)}]}

    assert "none.json: no such file" in refused(with_data("none.json", None), tmp_path / "out")
    assert "expected conversations" in refused(with_data("text.json", "hello"), tmp_path / "out")
    assert "no records" in refused(with_data("empty.json", "[]"), tmp_path / "out")
    (tmp_path / "folder").mkdir()
    assert "no data set in this folder" in refused(with_data("folder", None), tmp_path / "out")
    images = {
        "path": with_data("empty.json", "[]")["data"][0]["path"],
        "images": str(tmp_path / "x"),
    }
    assert "no folder" in refused({**recipes["pretrain"], "data": [images]}, tmp_path / "out")


def test_bad_records_are_named_and_too_many_stop_it(
    recipes: dict[str, dict[str, Any]], pairs: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(pairs, data)
    (data / "images" / "0" / "1.png").unlink()
    (data / "images" / "0" / "2.png").write_bytes(b"\x89PNG no picture")
    whole = (data / "images" / "0" / "3.png").read_bytes()
    (data / "images" / "0" / "3.png").write_bytes(whole[: len(whole) // 2])
    entries = json.loads((data / "llava.json").read_text())
    entries[4]["conversations"] = []
    (data / "llava.json").write_text(json.dumps(entries))
    values = {**recipes["pretrain"], "data": [{"path": str(data)}]}
    line = refused(values, tmp_path / "out")
    assert "4 of 24 records" in line
    assert "max_failed_share 0.01" in line
    named = (tmp_path / "out" / "bad_records.jsonl").read_text().splitlines()
    bad = [json.loads(row) for row in named]
    assert [row["where"].rsplit(" ", 1)[-1] for row in bad] == ["r1)", "r2)", "r3)", "r4)"]
    assert [row["problem"] for row in bad] == [
        "its image file is missing",
        "its image file cannot be decoded",
        "its image file cannot be decoded",
        "it has no conversations",
    ]
    few = {**values, "max_failed_share": 0.2, "report": True, "checkpoint_steps": 0}
    summary = train(TrainingRecipe.from_values(few), tmp_path / "out")
    assert (summary.samples, summary.failed) == (20, 4)
    page = (tmp_path / "out" / "report.html").read_text()
    for text in ("its image file is missing", "record 2 (id r1)", "<svg", "learning_rate", "trl"):
        assert text in page
    assert not any(mark in page for mark in ("<script", "http://", "https://", "url("))
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    assert "24 records, of which 20 were used" in card
    # Both may be published: names, and nothing of where they lie here.
    for text in (page, card):
        assert "path: data\n" in text
        assert "vision_tower: tower\n" in text
        assert str(tmp_path.parent) not in text
        assert str(Path(values["model"]["vision_tower"]).parent) not in text
    assert not list((tmp_path / "out" / "checkpoints").glob("*"))


def test_bad_models(
    recipes: dict[str, dict[str, Any]], parts: dict[str, str], tmp_path: Path
) -> None:
    full = recipes["full"]
    start = {**full, "model": {"start": parts["language_model"]}}
    assert "is no LLaVA checkpoint" in refused(start, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    for key in ("start", "vision_tower", "language_model"):
        values = {**full, "model": {**parts, key: str(tmp_path / "empty")}}
        assert "holds no config.json" in refused(values, tmp_path / "out")


def test_foreign_folder(recipes: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert "not empty, and no training" in refused(recipes["full"], tmp_path)
    assert "is a file: take another --out" in refused(recipes["full"], tmp_path / "thesis.txt")


def test_urls_are_refused(
    recipes: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SynthVLMError, match="s3://some/out: a URL; a training's folder is local"):
        train(TrainingRecipe.from_values(recipes["full"]), "s3://some/out")
    values = {**recipes["full"], "data": [{"path": "s3://some/data.json"}]}
    assert "s3://some/data.json: a URL; training reads local files" in refused(values, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_held_by_one_training(
    recipes: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    with TrainingFolder(str(tmp_path), main=True).locked():
        assert "another training works here" in refused(recipes["full"], tmp_path)


@pytest.mark.parametrize("kilobytes", [0, 2, 20, 300])
def test_full_disk_is_one_line_and_the_same_command_goes_on(
    recipes: dict[str, dict[str, Any]], tmp_path: Path, kilobytes: int
) -> None:
    """Files may not grow beyond some size: of the recipe, the samples, weights, the optimiser."""
    out = tmp_path / "out"
    values = {**recipes["full"], "checkpoint_steps": 1}
    values["optimisation"] = {**values["optimisation"], "epochs": 1}
    whole = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, whole[1]))
    try:
        line = refused(values, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, whole)
    assert f"{out} cannot be written: " in line
    assert not (out / "model.partial").exists()
    if kilobytes in (0, 300):
        assert train(TrainingRecipe.from_values(values), out).steps == 3


def test_a_pipe_among_the_images_is_a_bad_record(
    recipes: dict[str, dict[str, Any]], pairs: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(pairs, data)
    (data / "images" / "0" / "5.png").unlink()
    os.mkfifo(data / "images" / "0" / "5.png")
    values = {**recipes["pretrain"], "data": [{"path": str(data)}]}
    assert "1 of 24 records" in refused(values, tmp_path / "out")


def test_links_out_of_the_folder_of_images_are_not_followed(
    recipes: dict[str, dict[str, Any]], pairs: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(pairs, data)
    (tmp_path / "outside").mkdir()
    entries = json.loads((data / "llava.json").read_text())
    images = data / "images"
    for n in (5, 6, 7):
        shutil.copy(images / "0" / f"{n}.png", tmp_path / "outside")
        (images / "0" / f"{n}.png").unlink()
    (images / "0" / "5.png").symlink_to(tmp_path / "outside" / "5.png")  # an image
    (images / "1").symlink_to(tmp_path / "outside")  # a folder
    entries[6]["image"] = "1/6.png"
    (images / "7.png").symlink_to("0/../../llava.json")  # no image at all
    entries[7]["image"] = "7.png"
    (images / "8.png").symlink_to("0/8.png")  # one that stays within
    entries[8]["image"] = "8.png"
    (data / "llava.json").write_text(json.dumps(entries))
    (tmp_path / "link").symlink_to(data)  # the user's own, and followed
    values = {**recipes["pretrain"], "data": [{"path": str(tmp_path / "link")}]}
    assert "3 of 24 records" in refused(values, tmp_path / "out")
    named = (tmp_path / "out" / "bad_records.jsonl").read_text().splitlines()
    bad = [json.loads(row) for row in named]
    assert [row["where"].rsplit(" ", 1)[-1] for row in bad] == ["r5)", "r6)", "r7)"]
    assert {row["problem"] for row in bad} == {
        "its image file is a link out of the folder of images"
    }


@pytest.mark.parametrize(
    ("variable", "name"),
    [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")],
)
def test_weights_in_parts_are_refused_before_anything_is_written(
    recipes: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    name: str,
) -> None:
    monkeypatch.setenv(variable, "true")
    line = refused(recipes["full"], tmp_path / "out")
    assert f"set to {name}, with which the model cannot be saved whole" in line
    assert not (tmp_path / "out").exists()


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_threads_are_those_of_the_first_start(
    recipes: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    used: list[int] = []

    class Stopping(SilentProgress):
        def advance(self, amount: int) -> None:
            used.append(torch.get_num_threads())
            if len(used) == 2:
                raise KeyboardInterrupt  # at the first step

    values = {**recipes["pretrain"], "threads": "auto", "checkpoint_steps": 0}
    recipe = TrainingRecipe.from_values(values)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path, progress=Stopping())
    torch.set_num_threads(2)  # as a library or another machine may have it
    other = TrainingRecipe.from_values({**values, "threads": 2})
    assert "threads changed; take another --out" in refused(other.model_dump(), tmp_path)
    train(recipe, tmp_path, progress=Stopping())
    assert set(used) == {3}
    assert torch.get_num_threads() == 2
    assert TrainingRecipe.load(tmp_path / "training.yaml").threads == 3


@pytest.mark.usefixtures("three_threads")
def test_a_folder_of_a_release_without_threads_goes_on(
    recipes: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    recipe = TrainingRecipe.from_values({**recipes["pretrain"], "threads": "auto"})
    folder = TrainingFolder(str(tmp_path), main=True)
    (tmp_path / "training.yaml").write_text(recipe.to_yaml().replace("threads: auto\n", ""))
    (tmp_path / "samples.arrow").touch()
    folder.write_facts(DataFacts())
    folder.claim(recipe, [], {})
    assert folder.recipe().threads == 3


@pytest.mark.parametrize("rate", [1e30, 1e39])
def test_a_loss_that_is_no_number_stops_it(
    recipes: dict[str, dict[str, Any]], tmp_path: Path, rate: float
) -> None:
    values = recipes["full"]
    options = {**values["optimisation"], "learning_rate": rate, "projector_learning_rate": None}
    line = refused({**values, "optimisation": options}, tmp_path)
    assert "step 3: " in line
    assert "take another --out with a lower optimisation.learning_rate" in line


def test_memory_that_does_not_suffice_is_one_line(
    recipes: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    class Hungry(SilentProgress):
        def advance(self, amount: int) -> None:
            torch.empty(1 << 48)  # an error of the CPU's allocator

    with pytest.raises(OutOfMemoryError, match=r"lower optimisation\.device_batch_size") as found:
        train(TrainingRecipe.from_values(recipes["pretrain"]), tmp_path, progress=Hungry())
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "error",
    [
        # As torch tells of it: by its signal handler, and by a pipe that is closed.
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
        RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"),
        ConnectionResetError(104, "Connection reset by peer"),
    ],
)
def test_a_dead_process_that_decodes_images_is_one_line(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(EngineError, match="lower image_workers, 0 for none"), explained(tmp_path):
        raise error


def test_an_interrupted_training_no_longer_minds_their_deaths(tmp_path: Path) -> None:
    """SIGTERM to all of a job ends them, too; torch's handler raised in the middle of the exit."""
    before = signal.getsignal(signal.SIGCHLD)

    def train_and_stop() -> None:
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # as torch does
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), explained(tmp_path):
        train_and_stop()
    assert signal.getsignal(signal.SIGCHLD) is before


def test_devices_that_do_not_divide(recipes: dict[str, dict[str, Any]]) -> None:
    from synthvlm.training.train import _accumulation

    recipe = TrainingRecipe.from_values(recipes["full"])
    assert [_accumulation(recipe, devices) for devices in (1, 2)] == [2, 1]
    with pytest.raises(SynthVLMError, match="no multiple of 3 devices x device_batch_size 4"):
        _accumulation(recipe, 3)


@pytest.mark.parametrize("workers", [0, 1])
def test_image_that_vanishes_on_the_way(
    recipes: dict[str, dict[str, Any]], pairs: Path, tmp_path: Path, workers: int
) -> None:
    data = tmp_path / "data"
    shutil.copytree(pairs, data)

    class Vandal(SilentProgress):
        def start(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
            if stage == "train":
                (data / "images" / "0" / "7.png").unlink()

    values = {**recipes["pretrain"], "data": [{"path": str(data)}], "image_workers": workers}
    with pytest.raises(SynthVLMError) as found:
        train(TrainingRecipe.from_values(values), tmp_path / "out", progress=Vandal())
    line = "7.png could be read before training and now cannot: No such file or directory; put"
    assert line in str(found.value)
    assert "\n" not in str(found.value)
