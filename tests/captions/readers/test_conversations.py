"""LLaVA conversations that are about no image are no captions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from reading import Read

from synthvlm.captions.readers.sources import read_images


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


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_where_none_has_an_image_all_are_captions(tmp_path: Path, name: str) -> None:
    rows = [conversation(str(n), "Describe.", f"a dog {n}") for n in range(3)]
    content = json.dumps(rows)
    if name == "a.jsonl":
        content = "".join(json.dumps(one) + "\n" for one in rows)
    read = Read(tmp_path, name, content)
    assert read.texts == ["a dog 0", "a dog 1", "a dog 2"]
    assert read.notes[-1] == "note: no conversation has an image: all are read"
