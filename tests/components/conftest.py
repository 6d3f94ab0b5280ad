from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gadgets import Gadget

from synthvlm.components import plugins
from synthvlm.components.table import Table


@pytest.fixture
def gadgets(monkeypatch: pytest.MonkeyPatch) -> Table[Gadget]:
    """A table of its own kind, with no plug-in; no other kind is known meanwhile."""
    monkeypatch.setattr(plugins, "_kinds", {})
    builtin = {"lever": "gadgets:Lever", "wheel": "gadgets:Wheel"}
    return Table("gadget", Gadget, builtin, on_by_default=("lever",), reserved=("taken",))


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Take plug-ins of a test out of the tables again."""
    yield
    plugins.forget()


Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a package beside the installed ones: its entry points, and the text of its module."""

    def add(
        package: str,
        points: dict[str, str],
        text: str = "",
        version: str = "1.0",
        group: str = "synthvlm.gadgets",
    ) -> None:
        site = tmp_path / "site"
        info = site / f"{package}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        )
        lines = [f"{name} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        (site / f"{package}.py").write_text(text)
        monkeypatch.syspath_prepend(str(site))

    return add
