"""What each reader has to give, in the environment of a trainer: no import of ours or of others."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Before a trainer's library is imported: nothing is fetched, nothing is sent.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "USE_HF": "1"}
FOLDER = Path(sys.argv[1]).resolve()
DATA_SET, LINES = FOLDER / "dataset", FOLDER / "lines"
EXPECTED: dict[str, dict[str, int]] = json.loads((FOLDER / "expected.json").read_text("utf-8"))
os.environ["HF_HOME"] = str(FOLDER / "cache")


def check(package: str, what: str, split: str, rows: Iterable[tuple[str, int]]) -> None:
    """Every caption once, as it was exported, with the image of its pair; in any order.

    Args:
        package: The distribution whose version is printed.
        what: The files that were read.
        split: `train` or `validation`.
        rows: Captions, and the red of the image's first pixel, 0 to 255.
    """
    read, expected = sorted(rows), sorted(EXPECTED[split].items())
    name = f"{package} {version(package)}, {what}, {split}"
    if read != expected:
        lost = [row for row in expected if row not in read]
        sys.exit(f"{name}: {len(read)} of {len(expected)} rows; lost or changed: {lost}")
    print(f"{name}: {len(read)} of {len(expected)} rows, images decode, captions equal")


def red(image: Any) -> int:
    """The red of the first pixel of a PIL image of 8 x 8 pixels."""
    assert image.size == (8, 8), image.size
    return int(image.convert("RGB").getpixel((0, 0))[0])
