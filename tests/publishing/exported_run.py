"""A run that is exported, and publishing it without pauses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from commands import run as command
from fake_models import use_fake_models
from synthvlm.progress.display import SilentProgress
from synthvlm.publishing import Published, publish
from synthvlm.run_folder.storage import Clock

__all__ = ["Notes", "content", "export", "send"]

WORDS = ("red", "blue", "green", "black", "white", "brown", "grey")


def export(out: Path, *changes: str) -> None:
    """Export seven pairs, in parts of three unless changed."""
    captions = out.parent / "captions.txt"
    captions.write_text("".join(f"a {word} horse beside a small wooden barn\n" for word in WORDS))
    settings = [
        "generation.model=org/fake",
        "scoring.clip.model=org/fake",
        "generation.candidates=1",
        "selection.top_fraction=1.0",
        "run.shard_size=4",
        "run.threads=1",
        "export.images_per_folder=3",
        *changes,
    ]
    words: list[str | Path] = ["export", "tiny", "--captions", captions, "--out", out]
    for setting in settings:
        words += ["--set", setting]
    result = command(words, out.parent, use_fake_models)
    assert result.code == 0, result.err


class Notes(SilentProgress):
    """Remembers what people would see."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.counted = 0

    def advance(self, amount: int) -> None:
        self.counted += amount

    def note(self, line: str) -> None:
        self.lines.append(line)


def send(
    out: Path | str, target: str | Path, *, progress: Notes | None = None, **options: Any
) -> Published:
    """Publish without pauses."""
    clock = Clock(sleep=lambda seconds: None)
    return publish(str(out), str(target), progress=progress or Notes(), clock=clock, **options)


def content(folder: Path) -> dict[str, bytes]:
    """The files that are not hidden, by their names."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
