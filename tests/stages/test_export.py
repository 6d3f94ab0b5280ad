"""The data set on disk: what is written again, what is removed, and when it counts as whole."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import datasets
import pytest

from commands import run
from fake_models import run_with, use_fake_models
from synthvlm.data import digest
from synthvlm.errors import RecipeError, RunFolderError
from synthvlm.pipeline import Pipeline
from synthvlm.recipe import Recipe
from synthvlm.run.kept_recipe import resumed_recipe
from synthvlm.run_folder.folder import RunFolder
from synthvlm.stages.data_set_folder import DataSetFolder, Listing

COMMAND = [
    "export",
    "tiny",
    *("--set", "generation.model=org/fake"),
    *("--set", "scoring.clip.model=org/fake"),
    *("--set", "generation.candidates=2"),
    *("--set", "selection.top_fraction=1.0"),
    *("--set", "run.shard_size=4"),
    *("--set", "run.threads=1"),
    *("--set", "export.images_per_folder=3"),
]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    captions = tmp_path / "captions.txt"
    words = ("red", "blue", "green", "black", "white", "brown", "grey")
    captions.write_text("".join(f"a {word} horse beside a small wooden barn\n" for word in words))
    again(tmp_path / "run")
    return tmp_path / "run"


def again(out: Path, *changes: str) -> str:
    command = [*COMMAND, "--captions", out.parent / "captions.txt", "--out", out]
    for change in changes:
        command += ["--set", change]
    result = run(command, out.parent, use_fake_models)
    assert result.code == 0, result.err
    # A stage that takes long prints lines on the way as well: the last one tells what it did.
    return [line for line in result.out.splitlines() if line.startswith("export: ")][-1]


def content(out: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes of each file of the data set, and the time of its last change."""
    folder = out / "dataset"
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def changed(before: dict[str, tuple[bytes, int]], after: dict[str, tuple[bytes, int]]) -> set[str]:
    """Names of the files that were written again; all have the bytes that they had."""
    assert {name: data for name, (data, _) in after.items()} == {
        name: data for name, (data, _) in before.items()
    }
    return {name for name in after if after[name][1] != before[name][1]}


def test_control_tokens_are_never_exported(out: Path) -> None:
    before = content(out)
    captions = out.parent / "captions.txt"
    captions.write_text(captions.read_text() + "a pink <image> horse beside a small wooden barn\n")
    off = ["--set", "curation.rules.control_tokens=null"]
    result = run(
        [*COMMAND, "--captions", captions, "--out", out, *off], out.parent, use_fake_models
    )
    assert result.code == 1
    assert "1 selected caption holds control tokens of tokenizers" in result.err
    assert "'<image>'" in result.err
    assert "--set curation.rules.control_tokens.max=0" in result.err
    assert content(out) == before, "the data set of before is as it was"
    again(out)  # the recipe rejects it
    assert b"pink" not in (out / "dataset" / "llava.json").read_bytes()


@pytest.mark.parametrize("harm", ["lost", "cut off"])
def test_a_part_without_one_of_its_images_is_written_again(out: Path, harm: str) -> None:
    before = content(out)
    image = sorted((out / "dataset" / "images" / "00001").iterdir())[0]
    image.unlink() if harm == "lost" else image.write_bytes(image.read_bytes()[:-1])
    again(out)
    again_written = changed(before, content(out))
    parts = {name for name in before if "/00001/" in name or "-00001-" in name}
    assert len(parts) == 4
    assert again_written == parts | {"README.md", "dataset_info.json", "llava.json"}


def test_a_lost_card_costs_no_part(out: Path) -> None:
    before = content(out)
    (out / "dataset" / "README.md").unlink()
    again(out)
    assert changed(before, content(out)) == {"README.md", "dataset_info.json", "llava.json"}


def test_a_version_is_on_the_card_and_costs_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path(__file__).parents[1] / "data"
    monkeypatch.chdir(data)
    out = Path(shutil.copytree(data / "kept_run", tmp_path / "run"))
    Pipeline(resumed_recipe(out), out).run("export")
    before = content(out)
    Pipeline(resumed_recipe(out, overrides=["export.version=1.2.0"]), out).run("export")
    after = content(out)
    assert {name for name in before if before[name] != after[name]} <= {
        "README.md",
        "dataset_info.json",
        "llava.json",
    }
    card = (out / "dataset" / "README.md").read_text()
    assert "\nversion: 1.2.0\n" in card.split("---")[1]
    assert "\nVersion: 1.2.0\n" in card.split("---")[2]
    assert before["llava.json"][0] == after["llava.json"][0]
    with pytest.raises(RecipeError, match="a version is text: put it in quotes"):
        Recipe.load(overrides=["export.version=1.10"])


def test_a_folder_that_parts_share_is_listed_once(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = []
    listing = DataSetFolder.listing

    def listed_once(self: DataSetFolder, folder: str) -> Listing:
        listed.append(folder)
        return listing(self, folder)

    monkeypatch.setattr(DataSetFolder, "listing", listed_once)
    captions = [out.parent / "captions.txt"]
    recipe = Recipe.load("tiny", captions=captions, overrides=COMMAND[3::2])
    before = content(out)
    run_with(recipe, out, until="export")
    assert not changed(before, content(out))
    folders = {name.rpartition("/")[0] for name in before}
    assert len(folders) == 5  # that of the indexes, that of the tables, and the images of each part
    assert sorted(listed) == sorted({*folders, "images"})


def test_what_belongs_to_no_part_is_removed(out: Path) -> None:
    before = content(out)
    for name in ("notes.txt", "images/00001/stranger.png", "images/00009/old.png", "more/x/y.bin"):
        path = out / "dataset" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"stranger")
    (out / "dataset" / "llava.json").unlink()
    again(out)
    assert content(out).keys() == before.keys()


def test_fewer_and_other_parts_leave_nothing_behind(out: Path, tmp_path: Path) -> None:
    again(out, "export.images_per_folder=100", "export.formats=[llava]")
    files = content(out)
    assert {name.rsplit("/", 1)[0] for name in files if "/" in name} == {"images/00000"}
    assert len(json.loads(files["llava.json"][0])) == 7


def kill_while_images_are_written(number: int) -> None:
    import os

    use_fake_models()
    write, count = DataSetFolder.write, 0

    def deadly(self: DataSetFolder, name: str, chunks: Iterable[bytes]) -> int:
        nonlocal count
        if count == number:
            write(self, name, [b"".join(chunks)[:10]])  # torn
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        return write(self, name, chunks)

    DataSetFolder.write = deadly  # type: ignore[method-assign]


@pytest.mark.parametrize("number", [0, 4, 8])
def test_killed_with_a_torn_file(out: Path, tmp_path: Path, number: int) -> None:
    wanted = {name: data for name, (data, _) in content(out).items()}
    again(out, "export.images_per_folder=2")
    command = [*COMMAND, "--captions", tmp_path / "captions.txt", "--out", out]
    result = run(command, tmp_path, partial(kill_while_images_are_written, number))
    assert result.code == -signal.SIGKILL
    assert not (out / "dataset" / "README.md").exists()
    again(out)
    assert {name: data for name, (data, _) in content(out).items()} == wanted


def counts(out: Path) -> dict[str, str]:
    """The counts on the card."""
    rows = (line.strip("| ").split(" | ") for line in card(out).splitlines() if " | " in line)
    return {row[0].replace("\\", ""): row[1] for row in rows if len(row) == 2}


def card(out: Path) -> str:
    return (out / "dataset" / "README.md").read_text()


def add_captions(out: Path, *texts: str) -> None:
    with (out.parent / "captions.txt").open("a") as file:
        file.writelines(f"{text}\n" for text in texts)


def test_an_export_with_nothing_to_do_writes_nothing_and_says_so(out: Path) -> None:
    before = content(out)
    assert again(out) == "export: 7 pairs exported (up to date, nothing to do)"
    assert changed(before, content(out)) == set()
    folders = {path: path.stat().st_mtime_ns for path in (out / "dataset").rglob("*")}
    again(out)
    assert {path: path.stat().st_mtime_ns for path in (out / "dataset").rglob("*")} == folders


def test_the_card_counts_captions_that_are_rejected_later(out: Path) -> None:
    assert counts(out)["captions read"] == "7"
    add_captions(out, "a red horse beside a small wooden barn")
    assert again(out).startswith(
        "export: 7 pairs exported, README.md, dataset_info.json and llava.json written ("
    )
    assert counts(out)["captions read"] == "8"
    assert counts(out)["rejected: duplicate"] == "1"
    before = content(out)
    captions = out.parent / "captions.txt"
    lines = captions.read_text().splitlines(keepends=True)
    captions.write_text("".join([*lines[:-1], "1\n"]))  # rejected for another reason
    assert "README.md, dataset_info.json and llava.json written" in again(out)
    assert counts(out)["captions read"] == "8"
    assert "rejected: duplicate" not in counts(out)
    assert content(out)["data/train-00000-000.parquet"] == before["data/train-00000-000.parquet"]
    assert "nothing to do" in again(out)


def test_the_card_follows_the_licence_that_a_model_states(tmp_path: Path) -> None:
    add_captions(tmp_path / "run", "a red horse beside a small wooden barn")
    out, model = tmp_path / "run", tmp_path / "model"
    model.mkdir()
    (model / "model_index.json").write_text("{}")
    for licence in ("mit", "apache-2.0"):
        (model / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
        line = again(out, f"generation.model={model}")
        assert "README.md, dataset_info.json and llava.json written" in line
        assert f"| {licence} |" in card(out)
    assert "nothing to do" in again(out, f"generation.model={model}")


def test_a_stated_use_is_on_the_card_and_changes_nothing_else(out: Path) -> None:
    before = content(out)
    assert "| captions | captions | default | none | not in the table of terms: name" in card(out)
    again(out, "intended_use=research", "sources.0.terms=tiny-captions")
    assert "Intended use, by the recipe: research." in card(out)
    unknown, known = card(out).split("**Known terms.**")
    assert "| image generation, CLIPScore | org/fake | default | none | not in the" in unknown
    assert "| captions | captions | default | Apache License 2.0 | allowed by 2 |" in known
    after = content(out)
    assert {name for name in after if after[name][0] != before[name][0]} == {"README.md"}


@pytest.mark.parametrize("name", ["data/extra.parquet", "images/00009/old.png", "more.jsonl"])
def test_a_file_that_is_no_part_is_removed_and_named(out: Path, name: str) -> None:
    before = content(out)
    extra = out / "dataset" / name
    extra.parent.mkdir(exist_ok=True)
    extra.write_bytes(b"strange")
    assert again(out).startswith(f"export: 7 pairs exported, removed as no part of it: {name} (")
    assert changed(before, content(out)) == set()


def test_two_data_sets_of_one_shape_and_name_are_loaded_as_two(out: Path, tmp_path: Path) -> None:
    """By `datasets`, whose cache knows a data set by its folder's name and its card."""
    other = tmp_path / "other" / "run"
    captions = tmp_path / "other" / "captions.txt"
    captions.parent.mkdir()
    captions.write_text((tmp_path / "captions.txt").read_text().replace("horse", "donkey"))
    again(other)
    extra = out / "dataset" / "data" / "train-00003-000.parquet"
    shutil.copy(out / "dataset" / "data" / "train-00000-000.parquet", extra)
    for run_folder, animal in ((out, "horse"), (other, "donkey"), (out, "horse")):
        path, cache = str(run_folder / "dataset"), str(tmp_path / "cache")
        rows = datasets.load_dataset(path, split="train", cache_dir=cache)
        assert len(rows) == 7
        assert all(animal in caption for caption in rows["caption"])


def test_no_marker_names_the_images(out: Path) -> None:
    """A marker is read whole, and there may be a million images."""
    for stage in ("export", "dataset"):
        for marker in (out / "done" / stage).iterdir():
            assert ".png" not in marker.read_text()


@pytest.mark.parametrize("url", ["{}", "memory://test-data-set-folder{}"])
def test_a_folder_at_a_time(tmp_path: Path, url: str) -> None:
    folder = DataSetFolder(RunFolder(url.format(tmp_path)))
    assert list(folder.contents()) in ([], [("", {})])
    assert folder.listing("") == ({}, [])
    assert folder.write("images/0/a.png", [b"ab", b"c"]) == (3, digest([b"abc"]))
    assert folder.write("images/1/b.png", [b"d"]) == (1, digest([b"d"]))
    assert folder.write_whole("index.json", iter([b"[", b"]"])) == (2, digest([b"[]"]))
    folder.sync()
    assert folder.listing("images/0") == ({"images/0/a.png": 3}, [])
    assert folder.listing("") == ({"index.json": 2}, ["images"])
    assert dict(folder.contents()) == {
        "": {"index.json": 2},
        "images": {},
        "images/0": {"images/0/a.png": 3},
        "images/1": {"images/1/b.png": 1},
    }
    folder.remove("images/0/a.png")
    assert folder.listing("images/0").sizes == {}


def test_a_whole_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = DataSetFolder(RunFolder(tmp_path))

    def chunks() -> Iterable[bytes]:
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(RunFolderError, match=r"cannot write .*index\.json: no space left"):
        folder.write_whole("index.json", chunks())
    assert list((tmp_path / "dataset").iterdir()) == []
