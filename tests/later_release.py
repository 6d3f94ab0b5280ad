"""A later release of this package: a copy of its source in which every settings class has one more.

What is new has a neutral default, as a new setting must have.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import synthvlm

__all__ = ["NEW_SETTING", "later_release", "run_python"]

SOURCE = Path(synthvlm.__file__).parent
NEW_SETTING = "a_setting_that_came_later"
_FIELD = f"    {NEW_SETTING}: bool = False\n"


def later_release(folder: Path) -> Path:
    """Write the source of a later release into a folder; returns what ``PYTHONPATH`` must hold."""
    weights = SOURCE / "tiny" / "weights"
    skipped = shutil.ignore_patterns("__pycache__", weights.name)
    copied = Path(shutil.copytree(SOURCE, folder / "synthvlm", ignore=skipped))
    (copied / "tiny" / weights.name).symlink_to(weights)
    files = {file: ast.parse(file.read_text("utf-8")) for file in copied.rglob("*.py")}
    settings = _settings_classes(files.values())
    for file, tree in files.items():
        lines = file.read_text("utf-8").splitlines(keepends=True)
        for node in reversed(tree.body):
            # Where a base class has it, its subclasses have it too.
            if isinstance(node, ast.ClassDef) and node.name in settings:
                lines.insert(_after_docstring(node), _FIELD)
        file.write_text("".join(lines), "utf-8")
    # A real new setting would be an argument of the component, too.
    component = copied / "components" / "component.py"
    text = component.read_text("utf-8")
    loop = "for name in names if name not in shared}"
    assert loop in text
    component.write_text(text.replace(loop, f"{loop[:-1]} and name != {NEW_SETTING!r}}}"), "utf-8")
    return folder


def _settings_classes(trees: Iterable[ast.Module]) -> set[str]:
    """Names of the classes that are settings, directly or by a base class."""
    bases = {
        node.name: {ast.unparse(base) for base in node.bases}
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    found: set[str] = set()
    while more := {n for n, of in bases.items() if of & ({"Settings"} | found)} - found:
        found |= more
    return found


def _after_docstring(node: ast.ClassDef) -> int:
    """The line behind the docstring of a class, from 0."""
    first = node.body[0]
    assert isinstance(first, ast.Expr), f"{node.name} has no docstring"
    return first.end_lineno or first.lineno


def run_python(
    arguments: list[str | Path], path: Path | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python with another source of this package than the tests' own, if one is given."""
    tests = Path(__file__).parent
    places = [*([path] if path else [SOURCE.parent]), tests, tests / "components"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        timeout=300,
    )
