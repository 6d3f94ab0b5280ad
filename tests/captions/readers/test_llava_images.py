"""LLaVA conversations that are about no image are no captions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import Read

from synthvlm.captions.readers.sources import read_captions, read_images


def conversation(name: str, question: str, answer: str, **more: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": name, **more, "conversations": turns}


MIXED = [
    conversation("0", "Write a function.", "Sure! Here is a function"),
    conversation("1", "<image>\nDescribe.", "a red dog", image="1.jpg"),
    conversation("2", "Write a function.", "Sure!", image=None),
    conversation("3", "What is this?\n<image>", "a cat"),
    conversation("4", "Describe.", "a bird", images=["4.jpg"]),
    conversation("5", "Describe.", "Yes", image=""),
]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "object.json"])
@pytest.mark.parametrize(
    "options", [{}, {"format": "llava"}, {"text_field": "conversations"}], ids=str
)
def test_those_without_an_image_are_left_out_and_counted(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    content = json.dumps({"data": MIXED} if name == "object.json" else MIXED)
    if name == "a.jsonl":
        content = "".join(json.dumps(one) + "\n" for one in MIXED)
    if name == "object.json" and options:
        options = {"text_field": "data.conversations"}
    read = Read(tmp_path, name, content, **options)
    assert (read.ids, read.texts) == (["1", "3", "4"], ["a red dog", "a cat", "a bird"])
    assert read.notes[-1] == "note: 3 of 6 conversations have no image and are left out"
    # The images are found by the numbers of the rows, in which those left out count.
    assert [caption.row for caption in read.captions] == [1, 3, 4]
    (tmp_path / "1.jpg").write_bytes(b"one")
    if name != "object.json":
        (image,) = read_images(read.path, rows=[1], image_field="image", **options)
        assert image.data == b"one"


@pytest.mark.parametrize("group", [2, 6])
@pytest.mark.parametrize("is_path", [True, False])
def test_those_of_a_table(tmp_path: Path, group: int, is_path: bool) -> None:
    rows = [dict(row, image=row.get("image") or None) for row in MIXED]
    if not is_path:
        rows = [{**row, "image": row["image"] and {"bytes": b"x", "path": None}} for row in rows]
    table = pa.Table.from_pylist([{**row, "images": row.get("images")} for row in rows])
    with (tmp_path / "a.parquet").open("wb") as file:
        pq.write_table(table, file, row_group_size=group)
    content = (tmp_path / "a.parquet").read_bytes()
    read = Read(tmp_path, "a.parquet", content, text_field="conversations")
    assert (read.ids, read.texts) == (["1", "3", "4"], ["a red dog", "a cat", "a bird"])
    assert read.notes == ["note: 3 of 6 conversations have no image and are left out"]
    pq.write_table(table.select(["id", "conversations"]).slice(4), tmp_path / "b.parquet")
    content = (tmp_path / "b.parquet").read_bytes()
    read = Read(tmp_path, "b.parquet", content, text_field="conversations")
    assert read.texts == ["a bird", "Yes"]
    assert read.notes == ["note: no conversation has an image: all are read"]


def test_a_reading_that_ends_early_counts_what_it_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(MIXED))
    said: list[str] = []
    captions = read_captions(path, name="web", normalize=str, say=said.append)
    assert [next(captions).id, next(captions).id] == ["1", "3"]
    captions.close()  # type: ignore[attr-defined]
    assert said[-1].endswith(": 2 of 4 conversations have no image and are left out")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_where_none_has_an_image_all_are_captions(tmp_path: Path, name: str) -> None:
    rows = [conversation(str(n), "Describe.", f"a dog {n}") for n in range(3)]
    content = json.dumps(rows)
    if name == "a.jsonl":
        content = "".join(json.dumps(one) + "\n" for one in rows)
    read = Read(tmp_path, name, content)
    assert read.texts == ["a dog 0", "a dog 1", "a dog 2"]
    assert read.notes[-1] == "note: no conversation has an image: all are read"
