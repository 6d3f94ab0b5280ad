"""Plug-ins of docs/extending.md, and runs with them; no test leaves any behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from outside_package import write_modules
from plugin_runs import Runs

from synthvlm.components.plugins import forget


@pytest.fixture(autouse=True)
def no_plugins() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python files of docs/extending.md."""
    folder = tmp_path_factory.mktemp("files")
    write_modules(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path, files: Path) -> Runs:
    return Runs(tmp_path, files)
