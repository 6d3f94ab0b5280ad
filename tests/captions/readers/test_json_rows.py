"""Lists of lists: several captions of an image, or rows whose columns have numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from reading import Read

from synthvlm.captions.readers.sources import read_images
from synthvlm.errors import CaptionSourceError


def written(rows: list[Any], name: str) -> str:
    if name == "a.json":
        return json.dumps(rows)
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    ("rows", "number"),
    [
        ([["img0.jpg", "a red dog"], ["img1.jpg", "a cat"]], "2"),
        ([["a red dog", 1], ["a cat", 2]], "1"),
        ([["1", "a red dog", "http://x/1"], ["2", "a cat", None]], "2"),
    ],
)
def test_rows_are_refused_and_read_by_number(
    tmp_path: Path, name: str, rows: list[Any], number: str
) -> None:
    content = written(rows, name)
    with pytest.raises(CaptionSourceError, match="its lists are rows of") as caught:
        Read(tmp_path, name, content)
    assert str(caught.value).endswith(f"add --set sources.0.text_field={number}")
    assert Read(tmp_path, name, content, text_field=number).texts == ["a red dog", "a cat"]


def test_rows_with_names_ids_and_images(tmp_path: Path) -> None:
    content = written([["file", "caption"], ["a.jpg", "a dog"], ["b.jpg", "a cat"]], "a.json")
    with pytest.raises(CaptionSourceError, match=r"text_field=2$"):
        Read(tmp_path, "a.json", content)
    read = Read(tmp_path, "a.json", content, text_field="2", id_field="1")
    assert read.captions[0].problem == "item 1: it names the columns: 'caption'"
    assert [(one.id, one.text_raw) for one in read.captions[1:]] == [
        ("a.jpg", "a dog"),
        ("b.jpg", "a cat"),
    ]
    (tmp_path / "b.jpg").write_bytes(b"b")
    (image,) = read_images(read.path, rows=[2], text_field="2", image_field="1")
    assert image.data == b"b"
    short = Read(tmp_path, "b.jsonl", '["1", "a dog"]\n["2"]\n', text_field="2")
    assert "line 2: there is no field '2' (found: '1')" in (short.captions[1].problem or "")
    content = written([["a.jpg", ["a dog", "a cat"]], ["b.jpg", ["a bird"]]], "a.json")
    with pytest.raises(CaptionSourceError, match=r"text_field=2$"):
        Read(tmp_path, "c.json", content)
    several = Read(tmp_path, "c.json", content, text_field="2", id_field="1")
    assert (several.ids, several.texts) == (
        ["a.jpg-0", "a.jpg-1", "b.jpg-0"],
        ["a dog", "a cat", "a bird"],
    )
    with pytest.raises(CaptionSourceError, match=r"rows of 2 columns.*write them as objects"):
        Read(tmp_path, "d.json", '{"x": ["a.jpg", "a dog"], "y": ["b.jpg", "a cat"]}')


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_several_captions_of_an_image_are_captions(tmp_path: Path, name: str) -> None:
    for rows in ([["a dog", "two dogs"], ["a cat", "dog 2"]], [["a dog", "b"], ["c 1"]]):
        assert Read(tmp_path, name, written(rows, name)).texts == [*rows[0], *rows[1]]
