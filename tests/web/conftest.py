"""Fixtures of tests of pages: a browser, and a run of many pairs."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from browser import browser, open_page

__all__ = ["browser", "many_pairs", "open_page"]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def many_pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run folder of 60 pairs in three shards, 12 of them selected. Not to be changed: copy it."""
    folder = tmp_path_factory.mktemp("explorer") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import_module("explorer").write_run(folder, 60, shard_size=20)
        yield folder
