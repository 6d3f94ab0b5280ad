"""The pictures of the docs can be taken of any run."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from PIL import Image
from playwright.sync_api import Browser

from fake_models import run_with
from synthvlm import Recipe


def test_pictures_of_a_small_run(screenshots: ModuleType, browser: Browser, tmp_path: Path) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("\n".join(f"a red kite number {n} over a hill" for n in range(12)) + "\n")
    run_with(Recipe.load("tiny", captions=[captions]), tmp_path / "run")
    taken = list(screenshots.take(browser, tmp_path / "run", tmp_path / "images"))
    assert [file.stem for file in taken] == [
        "report", "explorer", "explorer-pair", "explorer-map", "explorer-phone",
    ]  # fmt: skip
    assert all(len(Image.open(file).convert("RGB").getcolors(10**6) or []) > 50 for file in taken)
