"""Every format is read by those who use it: all rows, images that decode, captions as they were."""

from __future__ import annotations

import gc
import json
import re
import struct
import tarfile
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from data_sets_on_disk import HELD_OUT, HOSTILE, SHADE, TRAIN, hostile_pairs, write_data_set
from PIL import Image

from synthvlm.data_sets.inputs import open_data_set, parse_input
from synthvlm.data_sets.pairs import LoadedPair
from synthvlm.exporters.questions import INSTRUCTIONS

FORMATS = ["llava", "huggingface", "messages", "webdataset", "croissant"]
CAPTIONS = {"train": TRAIN, "validation": HELD_OUT}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in every format, of two parts of ``train`` and one that is held out."""
    place = tmp_path_factory.mktemp("readers") / "pairs"
    train = hostile_pairs("train")
    write_data_set(place, FORMATS, [train[:4], train[4:], hostile_pairs("validation")])
    return place


@pytest.fixture
def cache(tmp_path: Path) -> dict[str, str]:
    return {"cache_dir": str(tmp_path / "cache")}


def numbers(split: str) -> list[int]:
    return [HOSTILE.index(caption) for caption in CAPTIONS[split]]


def shade_of(image: Any) -> int:
    return int(image.convert("RGB").getpixel((0, 0))[0]) // SHADE


@pytest.mark.parametrize("split", CAPTIONS)
def test_datasets(folder: Path, cache: dict[str, str], split: str) -> None:
    loaded = datasets.load_dataset(str(folder), split=split, **cache)
    assert isinstance(loaded.features["image"], datasets.Image)
    assert tuple(loaded["caption"]) == CAPTIONS[split]
    streamed = list(datasets.load_dataset(str(folder), split=split, streaming=True))
    assert tuple(row["caption"] for row in streamed) == CAPTIONS[split]
    for rows in (loaded, streamed):
        assert [shade_of(row["image"]) for row in rows] == numbers(split)


@pytest.mark.parametrize("split", CAPTIONS)
def test_trl_reads_the_messages_of_parquet(folder: Path, cache: dict[str, str], split: str) -> None:
    from trl.data_utils import is_conversational, prepare_multimodal_messages

    loaded = datasets.load_dataset(str(folder), "messages", split=split, **cache)
    for row, caption, number in zip(loaded, CAPTIONS[split], numbers(split), strict=True):
        assert is_conversational(row)
        user, assistant = prepare_multimodal_messages(row["messages"], images=row["images"])
        image, question = user["content"]
        assert (image["type"], shade_of(image["image"])) == ("image", number)
        assert question["text"] in INSTRUCTIONS
        (answer,) = assistant["content"]
        assert (assistant["role"], answer["text"]) == ("assistant", caption)


def test_messages_as_lines_beside_their_images(
    tmp_path: Path, cache: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [hostile_pairs("train"), hostile_pairs("validation")]
    write_data_set(tmp_path, ["messages"], parts, {"messages": {"images": "paths"}})
    monkeypatch.chdir(tmp_path)  # paths begin there
    files = {split: f"{split}.jsonl" for split in CAPTIONS}
    for split, rows in datasets.load_dataset("json", data_files=files, **cache).items():
        rows = rows.cast_column("images", datasets.List(datasets.Image()))
        assert [shade_of(row["images"][0]) for row in rows] == numbers(split)
        answers = [row["messages"][1]["content"][0]["text"] for row in rows]
        assert tuple(answers) == CAPTIONS[split]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # it leaves shards open
@pytest.mark.parametrize("split", CAPTIONS)
def test_webdataset(folder: Path, split: str) -> None:
    import webdataset

    shards = sorted(map(str, (folder / "webdataset").glob(f"{split}-*.tar")))
    rows = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))
    gc.collect()
    assert tuple(row["txt"] for row in rows) == CAPTIONS[split]
    assert [shade_of(row["png"]) for row in rows] == numbers(split)
    facts = rows[0]["json"]
    first = numbers(split)[0]
    assert (facts["id"], facts["caption"]) == (f"c-{first}", CAPTIONS[split][0])
    assert (facts["seed"], facts["rank"], facts["width"]) == (2**62 + first, first + 1, 8)
    assert (facts["clip_score"], facts["ssim_score"]) == (0.25, first / 16)


def test_datasets_reads_shards(tmp_path: Path, cache: dict[str, str]) -> None:
    write_data_set(tmp_path, ["webdataset"], [hostile_pairs("train"), hostile_pairs("validation")])
    for split, rows in datasets.load_dataset(str(tmp_path), **cache).items():
        assert tuple(rows["txt"]) == CAPTIONS[split]
        assert [shade_of(row["png"]) for row in rows] == numbers(split)


def test_the_index_of_energon(folder: Path) -> None:
    """As `energon prepare` of release 7.4 writes it: docs/formats.md."""
    shards = folder / "webdataset"
    counts = json.loads((shards / ".nv-meta" / ".info.json").read_text())["shard_counts"]
    assert list(counts.values()) == [4, 2, 3]
    assert json.loads((shards / "sizes.json").read_text()) == counts  # for open_clip
    splits = yaml.safe_load((shards / ".nv-meta" / "split.yaml").read_text())["split_parts"]
    train = ["train-00000-000.tar", "train-00001-000.tar"]
    assert splits == {"train": train, "val": ["validation-00002-000.tar"]}
    schema = yaml.safe_load((shards / ".nv-meta" / "dataset.yaml").read_text())
    assert schema["field_map"] == {"image": "png,jpg,webp", "caption": "txt"}
    assert schema["sample_type"]["__class__"] == "CaptioningSample"
    for name, count in counts.items():
        data = (shards / f"{name}.idx").read_bytes()
        offsets = struct.unpack(f"<{len(data) // 8}Q", data)
        assert len(offsets) == count + 1
        with tarfile.open(shards / name) as file:
            members = file.getmembers()
            assert [member.offset for member in members[::3]] == list(offsets[:-1])
            assert offsets[-1] == file.offset  # where the last one ends


def test_members_of_a_shard_are_sorted_and_tell_of_no_machine(folder: Path) -> None:
    with tarfile.open(folder / "webdataset" / "train-00000-000.tar") as file:
        members = file.getmembers()
    names = [member.name for member in members]
    assert names == sorted(names)
    assert names[:3] == [f"00000-000-0000000.{suffix}" for suffix in ("json", "png", "txt")]
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime, m.mode) for m in members} == {
        (0, 0, "", "", 0, 0o644)
    }


@pytest.mark.parametrize(
    ("options", "sizes"),
    [({"pairs_per_shard": 4}, [4, 2]), ({"megabytes_per_shard": 1}, [3, 3]), ({}, [6])],
)
def test_shards_by_pairs_or_size(tmp_path: Path, options: dict[str, int], sizes: list[int]) -> None:
    pairs = hostile_pairs("train")
    for pair in pairs:  # a third of a megabyte each
        object.__setattr__(pair, "image", pair.image + bytes(350_000))
    write_data_set(tmp_path, ["webdataset"], [pairs], {"webdataset": options})
    counts = json.loads((tmp_path / "webdataset" / "sizes.json").read_text())
    assert list(counts.values()) == sizes


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of rdflib and pandas, by mlcroissant
@pytest.mark.parametrize("split", CAPTIONS)
def test_mlcroissant(folder: Path, split: str, caplog: pytest.LogCaptureFixture) -> None:
    import mlcroissant

    data_set = mlcroissant.Dataset(folder / "croissant.json")
    assert not data_set.metadata.ctx.issues.errors
    assert not [line for line in caplog.messages if "not standard" in line]
    assert data_set.metadata.version == "1.2.0"
    rows = list(data_set.records(split))
    captions = tuple(row[f"{split}/caption"].decode() for row in rows)
    assert captions == CAPTIONS[split]
    assert [shade_of(row[f"{split}/image"]) for row in rows] == numbers(split)
    assert [row[f"{split}/seed"] for row in rows] == [2**62 + n for n in numbers(split)]


def test_croissant_names_every_file_but_single_images(folder: Path) -> None:
    described = json.loads((folder / "croissant.json").read_text())
    assert described["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    named = {one["@id"] for one in described["distribution"] if one["@type"] == "cr:FileObject"}
    on_disk = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    own = {"README.md", "croissant.json"}
    assert named == {name for name in on_disk if not name.startswith("images/")} - own


@pytest.mark.parametrize("split", CAPTIONS)
def test_conversations_of_llava_and_qwen_vl(folder: Path, split: str) -> None:
    """LLaVA's docs/Finetune_Custom_Data.md; qwen-vl-finetune's README: one tag for each image."""
    name = "llava.json" if split == "train" else "llava-validation.json"
    rows = json.loads((folder / name).read_text())
    for row, caption, number in zip(rows, CAPTIONS[split], numbers(split), strict=True):
        assert row.keys() == {"id", "image", "conversations"}
        human, gpt = row["conversations"]
        assert (human["from"], gpt["from"]) == ("human", "gpt")
        assert len(re.findall("<image>", human["value"])) == 1
        assert gpt["value"] == caption
        with Image.open(folder / "images" / row["image"]) as image:
            assert shade_of(image) == number


def test_the_index_of_llama_factory(folder: Path) -> None:
    """Its data/README.md: columns by their names in the file; images below `media_dir`."""
    index = json.loads((folder / "dataset_info.json").read_text())
    assert index["synthvlm"]["file_name"] == "llava.json"
    assert index["synthvlm_validation"]["file_name"] == "llava-validation.json"
    for entry in index.values():
        assert entry["formatting"] == "sharegpt"
        rows = json.loads((folder / entry["file_name"]).read_text())
        for column in entry["columns"].values():
            assert all(column in row for row in rows)


@pytest.mark.parametrize("name", ["llava", "huggingface", "messages", "webdataset"])
def test_train_compare_and_convert_read_it(tmp_path: Path, name: str) -> None:
    write_data_set(tmp_path, [name], [hostile_pairs("train"), hostile_pairs("validation")])
    pairs = list(open_data_set(parse_input(str(tmp_path)), with_facts=True).pairs())
    found = [(one.entry.caption, one.entry.split) for one in pairs if isinstance(one, LoadedPair)]
    assert found == [(text.strip(), split) for split, texts in CAPTIONS.items() for text in texts]


def test_an_image_of_two_formats_is_written_once_and_shared(folder: Path) -> None:
    from synthvlm.errors import PluginError
    from synthvlm.exporters.written_files import WrittenFiles

    written: list[str] = []

    def write(name: str, chunks: Any) -> tuple[int, str]:
        from synthvlm.data import digest

        written.append(name)
        return 1, digest(chunks)

    files = WrittenFiles(write, described=False)
    files("images/0/a.png", [b"a"])
    files("images/0/a.png", [b"a"])
    assert written == ["images/0/a.png"]
    with pytest.raises(PluginError, match=r"two formats write images/0/a\.png, and not the same"):
        files("images/0/a.png", [b"b"])
