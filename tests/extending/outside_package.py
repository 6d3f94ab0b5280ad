"""The code of docs/extending.md as a package that is no part of ours, in an environment of its own.

The environment is made without a network, so without pip: the package's folder and a handmade
``.dist-info`` are what an installer would leave, and a ``.pth`` file shows it the packages of the
environment that runs the tests.
"""

from __future__ import annotations

import json
import os
import re
import site
import subprocess
import tomllib
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Done", "Environment", "modules", "write_modules"]

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
PACKAGE = "synthvlm_extras"


def modules() -> dict[str, str]:
    """The page's Python files by name; each begins with a comment that names it."""
    blocks = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    return dict(blocks)


def project() -> dict[str, object]:
    """The page's pyproject.toml."""
    (text,) = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    found: dict[str, object] = tomllib.loads(text)["project"]
    return found


def write_modules(folder: Path) -> None:
    """Write the page's Python files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in modules().items():
        (folder / name).write_text(text)


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class Environment:
    """A virtual environment that sees the packages of this one."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, symlinks=True, with_pip=False)
        self._python = folder / "bin" / "python"
        (self.packages,) = folder.glob("lib/python*/site-packages")
        lines = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
        (self.packages / "outer.pth").write_text("\n".join(lines) + "\n")

    def install(self, version: str | None = None) -> None:
        """Install the page's package, in place of an earlier version of it."""
        facts = project()
        for old in self.packages.glob("synthvlm_extras-*.dist-info/*"):
            old.unlink()
        for old in self.packages.glob("synthvlm_extras-*.dist-info"):
            old.rmdir()
        version = version or str(facts["version"])
        write_modules(self.packages / PACKAGE)
        (self.packages / PACKAGE / "__init__.py").touch()
        folder = self.packages / f"{PACKAGE}-{version}.dist-info"
        folder.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {facts['name']}\nVersion: {version}\n"
        (folder / "METADATA").write_text(metadata)
        (folder / "INSTALLER").write_text("tests\n")
        (folder / "RECORD").touch()
        lines = []
        for group, points in facts["entry-points"].items():  # type: ignore[attr-defined]
            lines += [f"[{group}]", *(f"{name} = {place}" for name, place in points.items()), ""]
        (folder / "entry_points.txt").write_text("\n".join(lines))

    def python(
        self, *arguments: str | Path, cwd: Path | None = None, stdin: str | None = None
    ) -> Done:
        """Run Python there."""
        # Ray is to start here, whatever cluster of others is found on this machine.
        settings = {"HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "local"}
        done = subprocess.run(
            [str(self._python), *map(str, arguments)],
            cwd=cwd,
            env=os.environ | settings,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def synthvlm(self, *arguments: str | Path) -> Done:
        """Run a command."""
        return self.python("-m", "synthvlm", *arguments)

    def commands(self, *commands: Sequence[str | Path]) -> list[Done]:
        """Run several commands, each in a process of its own; torch is imported but once."""
        texts = json.dumps([[str(word) for word in words] for words in commands])
        done = self.python(Path(__file__).with_name("commands_of.py"), stdin=texts)
        assert done.code == 0, done.err
        return [Done(*one) for one in json.loads(done.out)]
