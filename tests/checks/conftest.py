"""A run for `verify`, and copies of it to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from spoilt_runs import CAPTIONS, do, use_free_rule


@pytest.fixture
def free_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule with a model costs nothing."""
    use_free_rule(monkeypatch)


@pytest.fixture(scope="session")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("captions") / "captions.txt"
    file.write_text("\n".join(CAPTIONS) + "\n")
    return file


@pytest.fixture(scope="session")
def whole(captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        use_free_rule(patch)
        do(out, captions)
    return out


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(whole, tmp_path / "run"))
