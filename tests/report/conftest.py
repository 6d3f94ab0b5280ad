from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from report_folder import Builder, candidate, caption, image_bytes, pair

from browser import browser, open_page
from synthvlm.data import Preview

__all__ = ["browser", "open_page"]


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Builder]:
    return lambda *overrides: Builder(tmp_path / "run", overrides)


@pytest.fixture
def whole(build: Callable[..., Builder]) -> Builder:
    """Two shards, seven captions, four kept, two candidates each, the best two of three pairs.

    Chosen: a1 (clip 0.40, ssim 0.80), b0 (0.30, 0.60), d1 (0.20, 0.40); c fails altogether.
    """
    builder = build("generation.candidates=2", "selection.top_fraction=null", "selection.top_n=2")
    builder.curated(
        0,
        [
            caption("a", "a red ball"),
            caption("x", "!!!", "alnum_ratio", alnum_ratio=0.125, row=1),
            caption("b", "a blue box", row=2),
            caption("y", "a red ball", "duplicate", duplicate_of="a", row=3),
        ],
    )
    builder.curated(
        1,
        [
            caption("z", "", "unreadable", problem="line is no JSON", row=4),
            caption("c", "a green cat", row=5),
            caption("d", "a grey dog", row=6),
        ],
    )
    builder.generated(
        0,
        [
            candidate("a", 0, 0.30, 0.60),
            candidate("a", 1, 0.40, 0.80, chosen=True, truncated=True),
            candidate("b", 0, 0.30, 0.60, chosen=True),
            candidate("b", 1, 0.10, 0.20),
        ],
        [pair("a", 1), pair("b", 0)],
        [Preview("a", 0, image_bytes("blue", 8, "webp"))],
    )
    builder.generated(
        1,
        [
            candidate("c", 0, None),
            candidate("c", 1, None),
            candidate("d", 0, 0.10, 0.40),
            candidate("d", 1, 0.20, 0.40, chosen=True),
        ],
        [pair("d", 1)],
    )
    builder.selected(top_n=2)
    return builder
