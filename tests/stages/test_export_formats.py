"""A run in every format at once: splits, what a kill leaves, and when it is up to date."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import tarfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from commands import call
from fake_models import run_with
from synthvlm.errors import RecipeError
from synthvlm.exporters import EXPORTERS
from synthvlm.exporters.splits import split_of
from synthvlm.recipe import Recipe
from synthvlm.stages.data_set_folder import DataSetFolder
from synthvlm.stages.selected_pairs import splits_of

SHARE = 0.4
THINGS = ("caterpillar", "lighthouse", "accordion", "greenhouse", "motorcycle", "wheelbarrow")
CAPTIONS = [f"a {colour} {thing} by a small barn" for thing in THINGS for colour in ("red", "blue")]
SETTINGS = [
    "generation.model=org/fake",
    "scoring.clip.model=org/fake",
    "generation.candidates=1",
    "selection.top_fraction=1.0",
    "run.shard_size=5",
    "run.threads=1",
    "export.images_per_folder=3",
    "export.formats=[llava,huggingface,messages,webdataset,croissant]",
    f"export.validation_share={SHARE}",
]


def export(captions: Path, out: Path, *changes: str) -> None:
    recipe = Recipe.load("tiny", captions=[captions], overrides=[*SETTINGS, *changes])
    run_with(recipe, out, until="export")


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("captions") / "captions.txt"
    path.write_text("\n".join(CAPTIONS) + "\n")
    return path


@pytest.fixture(scope="module")
def exported(captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("formats") / "run"
    export(captions, out)
    return out


@pytest.fixture
def out(exported: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    shutil.copytree(exported, tmp_path / "run")
    return tmp_path / "run"


def content(out: Path) -> dict[str, bytes]:
    folder = out / "dataset"
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(("split", "index"), [("train", ""), ("validation", "-validation")])
def test_every_format_has_the_same_splits(exported: Path, split: str, index: str) -> None:
    expected = {caption for caption in CAPTIONS if split_of(caption, SHARE) == split}
    assert 0 < len(expected) < len(CAPTIONS)
    files = content(exported)
    talks = json.loads(files[f"llava{index}.json"])
    found = {"llava": [talk["conversations"][1]["value"] for talk in talks]}
    for name, folder in (("huggingface", "data"), ("messages", "messages")):
        rows = [
            row
            for file, data in files.items()
            if file.startswith(f"{folder}/{split}-")
            for row in pq.read_table(io.BytesIO(data)).to_pylist()
        ]
        found[name] = [
            row["caption"] if name == "huggingface" else row["messages"][1]["content"][0]["text"]
            for row in rows
        ]
    found["webdataset"] = []
    for file, data in files.items():
        if file.startswith(f"webdataset/{split}-") and file.endswith(".tar"):
            with tarfile.open(fileobj=io.BytesIO(data)) as shard:
                texts = [member for member in shard if member.name.endswith(".txt")]
                found["webdataset"] += [shard.extractfile(one).read().decode() for one in texts]
    assert {name: sorted(captions) for name, captions in found.items()} == dict.fromkeys(
        found, sorted(expected)
    )
    assert len({str(captions) for captions in found.values()}) == 1, "all in one order"
    described = json.loads(files["croissant.json"])
    (about,) = (one["description"] for one in described["recordSet"] if one["name"] == split)
    assert about == f"{len(expected)} pairs of a caption and an image."


def test_the_card_names_both_splits_of_each_table(exported: Path) -> None:
    files = content(exported)
    front = yaml.safe_load(files["README.md"].decode().split("---")[1])
    named = {
        (config["config_name"], file["split"]): file["path"]
        for config in front["configs"]
        for file in config["data_files"]
    }
    assert named == {
        (name, split): [file for file in files if file.startswith(f"{folder}/{split}-")]
        for name, folder in (("default", "data"), ("messages", "messages"))
        for split in ("train", "validation")
    }


def test_parquet_files_have_an_identity(exported: Path) -> None:
    identities = set()
    for name, data in content(exported).items():
        if name.endswith(".parquet"):
            table = pq.ParquetFile(io.BytesIO(data))
            facts = json.loads(table.metadata.metadata[b"synthvlm"])
            assert (facts["pairs"], name.split("/")[1].startswith(facts["split"])) == (
                table.metadata.num_rows,
                True,
            )
            identities.add((name.split("/")[1], facts["identity"]))
    assert len(identities) == len({identity for _, identity in identities})


def test_nothing_is_left_to_do_and_what_is_lost_comes_back(captions: Path, out: Path) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (out / "dataset").rglob("*")}

    before, files = times(), content(out)
    export(captions, out)
    assert times() == before
    lost = ["webdataset/.nv-meta/.info.json", "croissant.json", "webdataset/sizes.json"]
    for name in lost:
        (out / "dataset" / name).unlink()
        export(captions, out)
        assert content(out) == files, name


def killed_export(captions: Path, out: Path, number: int) -> None:
    """Export other parts and splits; the process is killed within the n-th file of a part."""
    write, left = DataSetFolder.write, number

    def deadly(self: DataSetFolder, name: str, chunks: Iterable[bytes]) -> tuple[int, str]:
        nonlocal left
        left -= 1
        if left == 0:
            write(self, name, [b"".join(chunks)[:10]])  # torn
            os.kill(os.getpid(), signal.SIGKILL)
        return write(self, name, chunks)

    DataSetFolder.write = deadly  # type: ignore[method-assign]
    export(captions, out, "export.images_per_folder=2", "export.validation_share=0.2")


@pytest.mark.parametrize("number", [2, 23])
def test_what_a_kill_leaves_is_mended(
    captions: Path, out: Path, tmp_path: Path, number: int
) -> None:
    expected = content(out)
    result = call(partial(killed_export, captions, out, number), tmp_path)
    assert result.code == -signal.SIGKILL, result.err
    assert not (out / "dataset" / "README.md").exists()
    assert not (out / "dataset" / "croissant.json").exists()
    export(captions, out)
    assert content(out) == expected


def test_a_share_that_leaves_a_split_empty_is_refused(captions: Path, out: Path) -> None:
    before = content(out)
    with pytest.raises(RecipeError, match=r"export\.validation_share=0\.0001 leaves no pair of 12"):
        export(captions, out, "export.validation_share=0.0001")
    assert content(out) == before


def test_captions_with_the_same_longest_word_are_in_one_split() -> None:
    words = [f"w{number:05d}" for number in range(2000)]
    held_out = [word for word in words if split_of(f"a cat by a {word}", 0.1) == "validation"]
    assert 150 < len(held_out) < 250
    for word in words[:200]:
        splits = {split_of(f"{a} {word.upper()} by a {b}", 0.1) for a in "ab" for b in ("me", "it")}
        assert len(splits) == 1
    assert split_of("a cat", 0.0) == "train"
    assert split_of("\N{CAT FACE}", 0.999999) == "validation", "a caption without a word"


def test_near_captions_are_in_the_split_of_the_first() -> None:
    first = "a small brown dog sleeps on the old wooden bench behind the house"
    others = [first.replace("house", f"lighthouse{number}") for number in range(60)]
    apart = [split_of(text, 0.3) for text in others]
    assert {"train", "validation"} == set(apart), "alone they would be parted"
    for near in ([first, *others], [others[apart.index("validation")], *others]):
        expected = split_of(near[0], 0.3)
        assert splits_of([near[:7], near[7:]], 0.3) == [expected] * len(near)
    far = [f"a painter{number} draws {number} birds above a river{number}" for number in range(60)]
    assert splits_of([[first], far], 0.3)[1:] == [split_of(text, 0.3) for text in far]


def test_formats_that_datasets_reads_have_one_kind_of_file() -> None:
    from synthvlm.exporters.configurations import configurations

    names = [pattern.format(split="train").replace("*", "0") for pattern in tables()]
    assert set(configurations(EXPORTERS.names(), names)) == {"default", "messages"}
    assert configurations(["webdataset"], names) == {
        "default": {"train": ["webdataset/train-0.tar"]}
    }
    many = [f"data/train-{number:05d}-000.parquet" for number in range(1001)]
    assert configurations(["huggingface"], many) == {"default": {"train": ["data/train-*.parquet"]}}


def tables() -> list[str]:
    return [pattern for name in EXPORTERS.names() if (pattern := EXPORTERS[name].tables)]
