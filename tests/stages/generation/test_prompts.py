"""What images depend on."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthvlm import Recipe
from synthvlm.stages.fingerprints import image_fingerprint


def fingerprint(*changes: str) -> str:
    return image_fingerprint(Recipe.load("tiny", overrides=changes))


def test_a_lora_is_known_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "one" / "style.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    moved = file.rename(tmp_path / "style.safetensors")
    first = fingerprint(f"generation.loras=[{{model: {moved}}}]")
    moved.rename(file)
    assert fingerprint(f"generation.loras=[{{model: {file}}}]") == first
    assert fingerprint(f"generation.loras=[{{model: {file}, scale: 0.5}}]") != first
    folder = fingerprint(f"generation.loras=[{{model: {file.parent}}}]")
    file.write_bytes(b"others")
    assert fingerprint(f"generation.loras=[{{model: {file}}}]") != first
    assert fingerprint(f"generation.loras=[{{model: {file.parent}}}]") != folder
    assert fingerprint() not in (first, folder)


@pytest.mark.parametrize(
    "change",
    [
        "scheduler=LCMScheduler",
        "scheduler_options={timestep_spacing: trailing}",
        "call={eta: 1.0}",
        "quantization=int8",
        "compile=true",
    ],
)
def test_images_depend_on_the_settings_of_the_pipeline(change: str) -> None:
    assert fingerprint(f"generation.{change}") != fingerprint()
