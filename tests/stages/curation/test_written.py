"""Captions that models write, through the pipeline: who is asked, how often, what is kept."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any
from zlib import crc32

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from transformers import BlipForConditionalGeneration, BlipImageProcessorPil

from commands import kill_when, run
from fakes.endpoint import FakeEndpoint, Say, Status
from random_captioner import end_on, save_blip
from synthvlm import Pipeline, Recipe
from synthvlm.captions.readers.sources import source_digest
from synthvlm.captions.writers.image_captions import ImageCaptioner
from synthvlm.errors import CaptionSourceError, RecipeError, TooManyFailuresError

COLOURS = ["red", "green", "blue", "white", "black", "yellow", "purple"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (40, 30), colour).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLIP that ends its caption of a red image."""
    folder = save_blip(tmp_path_factory.mktemp("models") / "blip")
    red = Image.new("RGB", (40, 30), "red")
    pixels = BlipImageProcessorPil.from_pretrained(folder)(images=red, return_tensors="pt")
    model = BlipForConditionalGeneration.from_pretrained(folder)
    tokens = model.generate(**pixels, max_new_tokens=6, do_sample=False)[0].tolist()
    end_on(folder, "sep_token_id", tokens[4])
    return folder


def describe(messages: list[dict[str, Any]]) -> str:
    """A caption that tells pictures apart."""
    url = messages[-1]["content"][0]["image_url"]["url"]
    return f"A picture number {crc32(url.encode())} hangs on a wall, in a quiet room."


def captioner(server: FakeEndpoint, **more: Any) -> dict[str, Any]:
    return {"model": "fake", "endpoint": {"url": server.base_url, **more}}


def source(path: object, **more: Any) -> str:
    return json.dumps([{"path": str(path), "name": "own", **more}])


def curate(out: Path, sources: str, *changes: str) -> list[dict[str, Any]]:
    changes = (f"sources={sources}", "run.shard_size=3", *changes)
    Pipeline(Recipe.load("tiny", overrides=changes), out).run("curate")
    files = sorted((out / "captions").glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_an_endpoint_captions_images_once(tmp_path: Path, photos: Path) -> None:
    with FakeEndpoint(describe) as server:
        sources = source(photos / "*.png", image_captioner=captioner(server))
        rows = curate(tmp_path / "run", sources)
        assert [row["id"] for row in rows] == [f"own-{n}" for n in range(len(COLOURS))]
        assert len({row["text"] for row in rows}) == len(COLOURS)
        assert all(row["text"].startswith("A picture number") for row in rows)
        asked = len(server.received)
        assert asked == len(COLOURS)
        curate(tmp_path / "run", sources)
        # What was written does not depend on how it is normalised.
        again = curate(tmp_path / "run", sources, "curation.normalize_punctuation=false")
        assert [row["text"] for row in again] == [row["text"] for row in rows]
        assert len(server.received) == asked


def test_a_source_is_hashed_once(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []

    def hashing(path: str, **settings: Any) -> str:
        hashed.append(path)
        return source_digest(path, **settings)

    monkeypatch.setattr("synthvlm.captions.readers.sources.source_digest", hashing)
    with FakeEndpoint(describe) as server:
        sources = source(photos / "*.png", image_captioner=captioner(server))
        assert len(curate(tmp_path / "run", sources)) == len(COLOURS)
    assert hashed == [str(photos / "*.png")]


def test_a_limit_asks_for_no_more_and_a_higher_one_for_the_rest(
    tmp_path: Path, photos: Path
) -> None:
    with FakeEndpoint(describe) as server:
        sources = source(photos / "*.png", image_captioner=captioner(server))
        assert len(curate(tmp_path / "run", sources, "limit=4")) == 4
        assert len(server.received) == 4
        assert len(curate(tmp_path / "run", sources)) == len(COLOURS)
        assert len(server.received) == len(COLOURS)


def test_a_model_here_captions_images_and_a_rerun_does_not_load_it(
    tmp_path: Path, blip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.new("RGB", (40, 30), "red")
    for number in range(7):
        image.save(tmp_path / f"{number}.png")
    image.save(stream := io.BytesIO(), "PNG")
    expected = ImageCaptioner(str(blip), max_new_tokens=6).write([stream.getvalue()])[0]
    assert expected.text
    captioner = {"model": str(blip), "max_tokens": 6, "batch_size": 2}
    sources = source(tmp_path / "*.png", image_captioner=captioner)
    rows = curate(tmp_path / "run", sources)
    assert [row["text_raw"] for row in rows] == [expected.text] * 7
    written = sorted((tmp_path / "run").glob("written-*/*.parquet"))
    assert len(written) == 3
    monkeypatch.setattr(ImageCaptioner, "__init__", None)  # loading it would raise
    again = curate(tmp_path / "run", sources, "curation.fix_unicode=false")
    assert [row["text_raw"] for row in again] == [expected.text] * 7
    assert sorted((tmp_path / "run").glob("written-*/*.parquet")) == written


def test_a_broken_image_is_a_problem_and_is_tried_again(tmp_path: Path, photos: Path) -> None:
    good = (photos / "3.png").read_bytes()
    (photos / "3.png").write_bytes(b"no picture")
    with FakeEndpoint(describe) as server:
        sources = source(photos / "*.png", image_captioner=captioner(server))
        rows = curate(tmp_path / "run", sources, "run.max_failed_share=0.5")
        assert rows[3]["rejected_by"] == "unreadable"
        assert "row 3" in rows[3]["problem"]
        asked = len(server.received)
        assert asked == len(COLOURS) - 1
        curate(tmp_path / "run", sources, "run.max_failed_share=0.5")
        assert len(server.received) == asked
        (photos / "3.png").write_bytes(good)
        assert curate(tmp_path / "run", sources)[3]["kept"]


def test_a_server_that_fails_costs_nothing_twice(tmp_path: Path, photos: Path) -> None:
    with FakeEndpoint(describe, script=[Status(400)] * 3) as server:
        sources = source(photos / "*.png", image_captioner=captioner(server, concurrency=1))
        with pytest.raises(TooManyFailuresError, match="3 of 7 captions"):
            curate(tmp_path / "run", sources)
        failed = len(server.received)
        rows = curate(tmp_path / "run", sources)
        assert all(row["problem"] is None for row in rows)
        assert len(server.received) == failed + 3


def test_images_in_a_table_are_captioned_row_by_row(tmp_path: Path, photos: Path) -> None:
    images = [(photos / f"{n}.png").read_bytes() for n in range(4)]
    pq.write_table(pa.table({"photo": images}), tmp_path / "t.parquet", row_group_size=2)
    with FakeEndpoint(describe) as server:
        sources = source(
            tmp_path / "t.parquet", image_field="photo", image_captioner=captioner(server)
        )
        rows = curate(tmp_path / "run", sources)
        assert [row["row"] for row in rows] == [0, 1, 2, 3]
        # The image is the caption's original image, too.
        assert Recipe.load("tiny", overrides=[f"sources={sources}"]).sources[0].has_images


def tell(messages: list[dict[str, Any]]) -> str:
    """Numbered captions of the concept that is asked for."""
    text = messages[-1]["content"]
    count = int(re.findall(r"Write (\d+) captions", text)[0])
    concept = re.findall(r"show this: \"(.*?)\"", text)[0]
    start = text.count('{"caption": "A ')
    lines = [
        json.dumps({"caption": f"A {concept} number {start + n} stands, alone, on a hill."})
        for n in range(count)
    ]
    return "\n".join(lines)


def test_captions_come_from_concepts_alone(tmp_path: Path) -> None:
    (tmp_path / "concepts.txt").write_text("dog\ncat\nlighthouse\n", encoding="utf-8")
    with FakeEndpoint(tell) as server:
        writer = {**captioner(server), "captions_per_concept": 4}
        sources = source(tmp_path / "concepts.txt", concept_writer=writer)
        rows = curate(tmp_path / "run", sources)
        assert [row["id"] for row in rows] == [f"own-{n}" for n in range(12)]
        for number, concept in enumerate(["dog", "cat", "lighthouse"]):
            assert all(concept in row["text"] for row in rows[number * 4 : number * 4 + 4])
        asked = len(server.received)
        curate(tmp_path / "run", sources)
        curate(tmp_path / "run", sources, "curation.normalize_punctuation=false")
        assert len(server.received) == asked
        # A limit asks for the first concepts only.
        assert len(curate(tmp_path / "other", sources, "limit=5")) == 5
        assert len(server.received) == asked + 2


def test_written_and_read_sources_stand_side_by_side(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "c.txt").write_text("A red kite flies over the green hill, high.\n")
    with FakeEndpoint(describe) as server:
        sources = json.dumps(
            [
                {"path": str(tmp_path / "c.txt")},
                {
                    "path": str(photos / "*.png"),
                    "name": "photos",
                    "image_captioner": captioner(server),
                },
            ]
        )
        rows = curate(tmp_path / "run", sources, "limit=3")
        assert [row["source"] for row in rows] == ["c", "photos", "photos"]
        assert len(server.received) == 2


def test_what_cannot_be_is_refused_in_a_line(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(CaptionSourceError, match="set image_captioner"):
        curate(tmp_path / "run", source(photos / "*.png"))
    writer = {"model": "m", "endpoint": {"url": "http://localhost:1/v1"}}
    both = {"image_captioner": writer, "concept_writer": {**writer, "captions_per_concept": 1}}
    with pytest.raises(RecipeError, match="choose one"):
        Recipe.load("tiny", overrides=[f"sources={source('c.txt', **both)}"])


@pytest.mark.parametrize("from_concepts", [False, True])
def test_a_kill_while_writing_pays_nothing_twice(
    tmp_path: Path, photos: Path, from_concepts: bool
) -> None:
    (tmp_path / "concepts.txt").write_text("dog\ncat\nhen\nowl\n", encoding="utf-8")
    answer = tell if from_concepts else describe
    with FakeEndpoint(lambda messages: Say(answer(messages), delay_s=0.15)) as server:
        writer = captioner(server, concurrency=1)
        if from_concepts:
            writer["captions_per_concept"] = 4
            sources = source(tmp_path / "concepts.txt", concept_writer=writer)
        else:
            sources = source(photos / "*.png", image_captioner=writer)
        command = ["curate", "tiny", "--out", tmp_path / "run", "--set", f"sources={sources}"]
        command += ["--set", "run.shard_size=3"]
        kill_when(lambda: len(server.received) >= 3, command, tmp_path)
        asked = len(server.received)
        result = run(command, tmp_path)
        assert (result.code, result.err) == (0, "")
        # What was in work when the kill came may be asked again.
        total = 4 if from_concepts else len(COLOURS)
        assert len(server.received) <= max(total, asked) + 1
    undisturbed = tmp_path / "undisturbed"
    with FakeEndpoint(answer) as server:
        again = sources.replace(writer["endpoint"]["url"], server.base_url)
        expected = curate(undisturbed, again)
    files = sorted((tmp_path / "run" / "captions").glob("*.parquet"))
    assert [row for file in files for row in pq.read_table(file).to_pylist()] == expected


def test_a_concept_that_failed_shifts_nothing_wrongly(tmp_path: Path) -> None:
    names = ["dog", "cat", "hen", "owl", "fox", "elk", "bat", "yak"]
    (tmp_path / "concepts.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    fails = [True]

    def answer(messages: list[dict[str, Any]]) -> Any:
        if fails[0] and '"dog"' in messages[-1]["content"]:
            return Status(400)
        return tell(messages)

    with FakeEndpoint(answer) as server:
        writer = {**captioner(server), "captions_per_concept": 4}
        sources = source(tmp_path / "concepts.txt", concept_writer=writer)
        rows = curate(tmp_path / "run", sources, "run.max_failed_share=0.5")
        assert sum(row["rejected_by"] == "unreadable" for row in rows) == 1
        fails[0] = False
        rows = curate(tmp_path / "run", sources, "run.max_failed_share=0.5")
        assert [row["id"] for row in rows] == [f"own-{n}" for n in range(32)]
        assert rows == curate(tmp_path / "fresh", sources)


def test_a_captioner_that_always_fails_is_noticed(tmp_path: Path) -> None:
    """After a batch, whatever share may fail; a few images that it refuses stop nothing."""
    (tmp_path / "photos").mkdir()
    for number in range(40):
        picture = Image.new("RGB", (16, 16), (number * 6, 0, 0))
        picture.save(tmp_path / "photos" / f"{number:02}.png")
    dark = source(
        tmp_path / "photos" / "*.png",
        image_captioner={"model": "fake", "endpoint": {"url": "URL", "concurrency": 1}},
    )
    changes = ["run.max_failed_share=1.0", "run.shard_size=1000"]
    with FakeEndpoint(lambda messages: "") as server:
        with pytest.raises(TooManyFailuresError, match="no image gets a caption, not even that of"):
            curate(tmp_path / "run", dark.replace("URL", server.base_url), *changes)
        assert len(server.received) == 16 + 1
    refused = iter([*[""] * 16, *["A picture hangs on the wall, in a quiet room."] * 25])
    with FakeEndpoint(lambda messages: next(refused)) as server:
        rows = curate(tmp_path / "other", dark.replace("URL", server.base_url), *changes)
    assert [bool(row["problem"]) for row in rows] == [True] * 16 + [False] * 24


def test_a_writer_that_always_fails_is_noticed(tmp_path: Path) -> None:
    concepts = tmp_path / "concepts.txt"
    concepts.write_text("\n".join(f"thing {n}" for n in range(200)))
    with FakeEndpoint(lambda messages: Status(400)) as server:
        writer = {"model": "fake", "endpoint": {"url": server.base_url}, "captions_per_concept": 2}
        with pytest.raises(TooManyFailuresError, match="none of the first 32 concepts got a"):
            curate(
                tmp_path / "run", source(concepts, concept_writer=writer),
                "run.max_failed_share=1.0", "run.shard_size=1000",
            )  # fmt: skip
        assert len(server.received) == 64
