"""A run that is exported once, and a fake hub."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from exported_run import export

from fakes.hub import FakeHub
from hub_access import fake_hub


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "run"
    export(out)
    return out


@pytest.fixture
def out(exported: Path, tmp_path: Path) -> Path:
    """A copy of the exported run."""
    return Path(shutil.copytree(exported, tmp_path / "run"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with fake_hub(monkeypatch, tmp_path) as fake:
        yield fake
