"""The site, built once; a browser."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from browser import browser, open_page  # noqa: F401  (fixtures)

DOCS = Path(__file__).parents[2] / "docs"


def script(name: str) -> ModuleType:
    """A script of docs/."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def build_site() -> ModuleType:
    return script("build_site")


@pytest.fixture(scope="session")
def reference_pages() -> ModuleType:
    return script("reference_pages")


@pytest.fixture(scope="session")
def built(build_site: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with build/pages and site."""
    folder = tmp_path_factory.mktemp("site")
    assert build_site.build(folder) == 0, "make docs shows the warnings"
    return folder


@pytest.fixture(scope="session")
def screenshots() -> ModuleType:
    return script("screenshots")
