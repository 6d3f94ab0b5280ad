"""One contract for every exporter, and each format read by those who use it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from synthvlm.exporters import EXPORTERS, ExportedPair, Write, parquet_files
from synthvlm.exporters.card import CardFacts, data_set_card
from synthvlm.exporters.card_terms import TermsFacts
from synthvlm.exporters.llava import LlavaExporter
from synthvlm.exporters.questions import INSTRUCTIONS


def picture(shade: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(sink, "png")
    return sink.getvalue()


def make_pair(number: int, id: str | None = None) -> ExportedPair:
    return ExportedPair(
        id=id or f"c-{number}",
        caption=f"caption <b>{number}</b>, “quoted”",
        image=picture(number),
        format="png",
        width=8,
        height=8,
        source="web",
        rank=number + 1,
        scores={"clip": 0.3, "ssim": 0.8},
        score=0.7,
        seed=2**62 + number,
        index=1,
    )


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, chunks: Iterable[bytes]) -> None:
        assert not name.startswith(("/", "."))
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(chunks))

    return write_file


@pytest.mark.parametrize("name", EXPORTERS.names())
def test_the_same_pairs_give_the_same_files(name: str, tmp_path: Path) -> None:
    def files() -> dict[str, bytes]:
        found: dict[str, bytes] = {}

        def write(name: str, chunks: Iterable[bytes]) -> None:
            found[name] = b"".join(chunks)

        exporter = EXPORTERS[name]()
        kept = [
            exporter.write_part(part, map(make_pair, numbers), write)
            for part, numbers in enumerate((range(3), range(3, 6)))
        ]
        exporter.finish(kept, write)
        return found

    first = files()
    assert bool(first) == (name != "croissant")
    assert first == files()


def test_what_is_not_known_of_a_pair_is_null(tmp_path: Path, write: Write) -> None:
    pair = ExportedPair("c", "a cat", picture(0), "png", 8, 8, source="web")
    for name in EXPORTERS.names():
        EXPORTERS[name]().finish([EXPORTERS[name]().write_part(0, [pair], write)], write)
    (row,) = pq.read_table(tmp_path / "data" / "train-00000-000.parquet").to_pylist()
    unknown = {name: row[name] for name in ("rank", "score", "seed", "index")}
    assert unknown == dict.fromkeys(unknown)
    assert not [name for name in row if name.endswith("_score")]


@pytest.mark.parametrize("name", EXPORTERS.names())
def test_no_pairs_at_all(name: str, tmp_path: Path, write: Write) -> None:
    EXPORTERS[name]().finish([], write)
    files = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    if name == "llava":
        assert files.pop("llava.json") == b"[]\n"
        assert json.loads(files.pop("dataset_info.json")).keys() == {"synthvlm"}
    assert not files


def test_the_llava_index_is_joined_a_part_at_a_time() -> None:
    read: list[int] = []

    def parts() -> Iterator[bytes]:
        for number in range(3):
            read.append(number)
            yield f'{{"id": {number}}}'.encode()

    def write(name: str, chunks: Iterable[bytes]) -> None:
        first = list(islice(iter(chunks), 2))
        if name == "llava.json":
            assert (first, read) == ([b"[\n", b'{"id": 0}'], [0])

    EXPORTERS["llava"]().finish(parts(), write)


def test_a_parquet_file_is_written_a_row_group_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(picture(0))
    monkeypatch.setattr(parquet_files, "_ROW_GROUP_BYTES", 2 * size)
    monkeypatch.setattr(parquet_files, "FILE_BYTES", 5 * size)
    pulled: list[int] = []
    files: dict[str, bytes] = {}
    first_chunks: list[int] = []

    def pairs() -> Iterator[ExportedPair]:
        for number in range(7):
            pulled.append(number)
            yield make_pair(number)

    def write(name: str, chunks: Iterable[bytes]) -> None:
        data = []
        for chunk in chunks:
            if not data:
                first_chunks.append(len(pulled))
            data.append(chunk)
        files[name] = b"".join(data)

    EXPORTERS["huggingface"]().write_part(4, pairs(), write)
    assert first_chunks == [2, 7]  # the second file begins with pair 5
    assert list(files) == ["data/train-00004-000.parquet", "data/train-00004-001.parquet"]
    tables = [pq.ParquetFile(io.BytesIO(data)) for data in files.values()]
    assert [
        [table.metadata.row_group(n).num_rows for n in range(table.num_row_groups)]
        for table in tables
    ] == [[2, 2, 1], [2]]
    ids = [id for table in tables for id in table.read()["id"].to_pylist()]
    assert ids == [f"c-{n}" for n in range(7)]


def test_llava_json(tmp_path: Path, write: Write) -> None:
    exporter = EXPORTERS["llava"]()
    hostile = "../../etc/<script>"
    pairs = [make_pair(0), make_pair(1, hostile), make_pair(2)]
    kept = [exporter.write_part(0, pairs[:2], write), exporter.write_part(1, pairs[2:], write)]
    exporter.finish(kept, write)
    entries = json.loads((tmp_path / "llava.json").read_text())
    assert [entry["id"] for entry in entries] == ["c-0", hostile, "c-2"]
    for entry, pair in zip(entries, pairs, strict=True):
        assert (tmp_path / "images" / entry["image"]).read_bytes() == pair.image
        human, gpt = entry["conversations"]
        question, token = human["value"].rsplit("\n", 1)
        assert (human["from"], gpt["from"], token) == ("human", "gpt", "<image>")
        assert question in INSTRUCTIONS
        assert gpt["value"] == pair.caption
    assert {entry["image"].split("/")[0] for entry in entries} == {"00000", "00001"}


def test_llava_has_eleven_different_instructions_and_uses_all(write: Write) -> None:
    assert len(set(INSTRUCTIONS)) == 11
    kept = EXPORTERS["llava"]().write_part(0, map(make_pair, range(200)), write)
    assert all(question.encode() in kept for question in INSTRUCTIONS)


def test_own_instructions(write: Write) -> None:
    kept = LlavaExporter(instructions=["Say."]).write_part(0, [make_pair(0)], write)
    assert json.loads(kept)["conversations"][0]["value"] == "Say.\n<image>"


DATA_FILES = ["data/train-00000-000.parquet", "data/train-00001-000.parquet"]


def card(
    formats: list[str],
    names_checked: str | None = None,
    privacy_figures: Sequence[Sequence[Sequence[str]]] = (),
) -> str:
    return data_set_card(
        CardFacts(
            license="cc-by-4.0",
            formats=formats,
            terms=[TermsFacts("image generation", "some|model", unknown="not read")],
            sources={"web": 5},
            funnel=[("captions read", 12_345)],
            usages=[EXPORTERS[name].usage for name in EXPORTERS.names()],
            abouts={"CLIPScore": "how well it fits"},
            scores={"CLIPScore": (0.25, 0.3)},
            checks=["`alnum_ratio` >= 0.6"],
            personal_data_checked=False,
            names_checked=names_checked,
            reproducible=True,
            recipe="seed: 0\n",
            privacy_figures=privacy_figures,
            data_files={"default": {"train": DATA_FILES}} if "huggingface" in formats else {},
            identity="1a2b",
        )
    )


def test_load_dataset_opens_the_folder(tmp_path: Path, write: Write) -> None:
    for name in ("llava", "huggingface"):
        exporter = EXPORTERS[name]()
        kept = [
            exporter.write_part(0, map(make_pair, range(3)), write),
            exporter.write_part(1, map(make_pair, range(3, 5)), write),
        ]
        exporter.finish(kept, write)
    write("README.md", [card(["llava", "huggingface"]).encode()])
    loaded = datasets.load_dataset(
        str(tmp_path), split="train", cache_dir=str(tmp_path.parent / "cache")
    )
    assert loaded["id"][:] == [f"c-{n}" for n in range(5)]
    assert loaded[3]["image"].getpixel((0, 0)) == (3, 0, 0)
    assert loaded[3]["seed"] == 2**62 + 3
    assert isinstance(loaded.features["image"], datasets.Image)


def test_the_card(tmp_path: Path) -> None:
    text = card(["huggingface"])
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "cc-by-4.0"
    assert front["size_categories"] == ["n<1K"]
    (config,) = front["configs"]
    assert config["description"] == "synthvlm data set 1a2b"
    assert config["data_files"] == [{"split": "train", "path": DATA_FILES}]
    assert "configs" not in yaml.safe_load(card(["llava"]).split("---")[1])
    for expected in ("12,345", "0.2500", "some\\|model", "not read", "alnum_ratio", "seed: 0"):
        assert expected in text


def test_the_card_says_what_was_checked_for_privacy() -> None:
    assert "**not** checked for names of people" in card(["llava"])
    assert "checked for names of people by their form, which misses some" in card(
        ["llava"], names_checked="by their form"
    )


def test_the_card_shows_how_well_the_privacy_rules_do() -> None:
    assert "recall" not in card(["llava"])
    figures = [
        [["language", "recall"], ["all", "9 of 10"]],
        [["kind", "recall"], ["a|b", "1 of 2"]],
    ]
    text = card(["llava"], privacy_figures=figures)
    assert "| language | recall |\n| --- | --- |\n| all | 9 of 10 |" in text
    assert "| a\\|b | 1 of 2 |" in text
