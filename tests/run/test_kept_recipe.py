"""What is said where a run does not go on with what its folder holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthvlm import Pipeline, Recipe
from synthvlm.progress.display import SilentProgress
from synthvlm.run.kept_recipe import resumed_recipe


class Notes(SilentProgress):
    """Keeps the notes of a run."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_captions_that_a_run_no_longer_reads_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["one.txt", "two.txt"]
    for name in names:
        Path(name).write_text(f"a red circle of {name[:3]}\n")

    def notes(recipe: Recipe) -> list[str]:
        kept = Notes()
        Pipeline(recipe, "run", progress=kept).run("curate")
        return [note for note in kept.notes if "to go on" in note]

    assert notes(Recipe.load("tiny", captions=names)) == []
    assert notes(resumed_recipe("run", limit=1)) == []
    assert notes(Recipe.load("tiny", captions=[*names, names[0]][1:])) == []
    # As who leaves out --captions, and thinks that the folder's are read.
    assert notes(Recipe.load("tiny", limit=2)) == [
        "note: run read two.txt, one.txt before, and does not any more: to go on with these "
        "captions, name them by --captions"
    ]
