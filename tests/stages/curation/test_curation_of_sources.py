"""Curation of files as people have them: what is said, refused, and let pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from synthvlm import Pipeline, Recipe
from synthvlm.errors import CaptionSourceError
from synthvlm.progress.display import SilentProgress

TEXTS = [
    "A red circle stands on a white ground, all alone.",
    "Two blue squares lie side by side on a dark table.",
    "A green star shines beside a gray cross in the night.",
]


class Lines(SilentProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, line: str) -> None:
        self.said.append(line)


def curate(out: Path, recipe: Recipe) -> tuple[list[dict[str, Any]], list[str]]:
    lines = Lines()
    Pipeline(recipe, out, progress=lines).run("curate")
    files = sorted((out / "captions").glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()], lines.said


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """COCO captions whose images are not at hand."""
    path = tmp_path / "captions_val2017.json"
    annotations = [{"image_id": 1, "id": n, "caption": text} for n, text in enumerate(TEXTS)]
    images = [{"id": 1, "file_name": "1.jpg"}]
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": annotations}))
    return path


@pytest.mark.parametrize("format", ["auto", "coco"])
def test_rules_on_original_images_let_captions_without_one_pass(
    tmp_path: Path, coco: Path, format: str
) -> None:
    source = {"path": str(coco), "format": format}
    recipe = Recipe.load("sdxl", overrides=[f"sources=[{json.dumps(source)}]"])
    rows, said = curate(tmp_path / "run", recipe)
    assert [(row["text"], row["kept"]) for row in rows] == [(text, True) for text in TEXTS]
    notes = [line for line in said if "pass" in line]
    if format == "auto":
        assert len(notes) == 1
        assert "image_text_matching, clip_similarity, alignment: no source names" in notes[0]
    else:
        assert len(notes) == 3
        assert all("3 of 3 captions have no original image at hand" in line for line in notes)


def test_images_that_were_asked_for_must_be_there(tmp_path: Path, coco: Path) -> None:
    for number, change in enumerate(("image_root", "image_field")):
        value = str(tmp_path) if change == "image_root" else "file_name"
        source = json.dumps({"path": str(coco), change: value})
        changes = [f"sources=[{source}]", "run.max_failed_share=1.0"]
        rows, said = curate(tmp_path / f"{number}", Recipe.load("sdxl", overrides=changes))
        assert [row["rejected_by"] for row in rows] == ["unmeasured"] * 3
        assert any("No such file" in line for line in said)


def test_ids_given_twice_name_the_setting_that_works(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.json"
    first.write_text(json.dumps({"id": "1", "caption": TEXTS[0]}) + "\n")
    turns = [[{"from": "human", "value": "?"}, {"from": "gpt", "value": text}] for text in TEXTS]
    items = [{"id": "2", "image": "x/2.jpg", "conversations": turn} for turn in turns]
    second.write_text(json.dumps(items))
    recipe = Recipe.load("tiny", captions=[first, second])
    with pytest.raises(CaptionSourceError) as caught:
        curate(tmp_path / "run", recipe)
    message = str(caught.value)
    assert "two captions have the id '2': row 0 of source 'b' and row 1 of source 'b'" in message
    advice = message.rpartition("--set ")[2]
    assert advice == "sources.1.id_field=null"
    rows, _ = curate(tmp_path / "run", recipe.changed(overrides=[advice]))
    assert [row["id"] for row in rows] == ["1", "b-0", "b-1", "b-2"]


def test_a_line_about_a_source_has_its_place(tmp_path: Path) -> None:
    good, bad = tmp_path / "a.txt", tmp_path / "b.json"
    good.write_text(TEXTS[0] + "\n")
    bad.write_text(json.dumps({"images": [{"sentences": [{"raw": TEXTS[1]}]}]}))
    recipe = Recipe.load("tiny", captions=[good, bad])
    with pytest.raises(CaptionSourceError, match=r"sources\.1\.text_field=sentences\.raw$"):
        curate(tmp_path / "run", recipe)
