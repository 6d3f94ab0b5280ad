"""What is said of sources: before anything is generated, by every later run, and by trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthvlm import Pipeline, Recipe
from synthvlm.errors import TooManyFailuresError
from synthvlm.planning.sample_captions import read_pool
from synthvlm.progress.display import SilentProgress


class Notes(SilentProgress):
    """Keeps the lines for people."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def curated(recipe: Recipe, folder: Path) -> list[str]:
    notes = Notes()
    Pipeline(recipe, folder / "run", progress=notes).run("curate")
    return [line.replace(str(folder), "") for line in notes.lines]


def test_how_a_source_is_read_is_said_by_every_run(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;caption\n1;a.jpg\n2;b.jpg\n")
    (tmp_path / "b.txt").write_text("a red dog\n")
    recipe = Recipe.load("tiny", captions=[tmp_path / "a.csv", tmp_path / "b.txt"])
    expected = [
        "note: /a.csv: fields are separated by ';'",
        "warning: source 'a': most texts do not look like captions: of 2 looked at, 2 are names "
        "of files, such as 'a.jpg'; if captions are in another field, name it: "
        "--set sources.0.text_field=NAME",
    ]
    assert curated(recipe, tmp_path) == expected
    assert curated(recipe, tmp_path) == expected
    notes = Notes()
    read_pool(recipe, 3, notes)
    assert [line.replace(str(tmp_path), "") for line in notes.lines] == expected
    # A limit ends a source before its end.
    notes = Notes()
    read_pool(recipe.changed(limit=1), 3, notes)
    assert len(notes.lines) == 2


def test_half_of_a_source_is_never_lost_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for content in ("bad\n", 'bad\n{"caption": "a red dog"}\n'):
        path.write_text(content)
        with pytest.raises(TooManyFailuresError, match=r"1 of \d captions are unreadable"):
            curated(Recipe.load("tiny", captions=[path]), tmp_path)
    path.write_text(content + '{"caption": "a red cat"}\n')
    (line,) = curated(Recipe.load("tiny", captions=[path]), tmp_path)
    assert line.startswith("warning: 1 unreadable captions; the first: a: line 1: invalid JSON")


def test_a_stray_quote_stops_a_run(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"{n},caption number {n}\n" for n in range(2, 201))
    path.write_text(f'id,caption\n1,"a red circle\n{rows}300,"the, last"\n400,one here\n')
    with pytest.raises(TooManyFailuresError, match="201 of 202 captions are unreadable") as caught:
        curated(Recipe.load("tiny", captions=[path]), tmp_path)
    assert str(caught.value).endswith("add --set sources.0.quoting=false")
