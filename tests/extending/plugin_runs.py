"""Small runs with plug-ins: those of docs/extending.md, and one of a test."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from typer.testing import CliRunner, Result

from synthvlm.cli import app
from synthvlm.components.plugins import forget

CAPTIONS = [f"a small wooden barn number {n} on a hill" for n in range(9)]


class Runs:
    """Runs of small recipes whose generator is a plug-in, with a file of further ones."""

    def __init__(self, folder: Path, files: Path) -> None:
        self.folder, self._files = folder, files
        self.out = folder / "run"

    def __call__(self, code: str = "", *changes: str, options: Sequence[str] = ()) -> Result:
        captions, mine = self.folder / "captions.txt", self.folder / "mine.py"
        captions.write_text("\n".join(CAPTIONS) + "\n")
        words = ["run", "tiny", "--captions", str(captions), "--out", str(self.out), *options]
        for name in ("stripes", "colourfulness"):
            words += ["--plugin", str(self._files / f"{name}.py")]
        if code:
            mine.write_text(HEAD + textwrap.dedent(code))
            words += ["--plugin", str(mine)]
        settings = {
            "generation": "{generator: stripes, candidates: 2}",
            "scoring": "{clip: null, ssim: null, colourfulness: {}}",
            "export.formats": "[llava]",
            "run.shard_size": "4",
            "run.threads": "1",
            "run.device": "cpu",
        }
        settings |= dict(change.split("=", 1) for change in changes)
        for key, value in settings.items():
            words += ["--set", f"{key}={value}"]
        try:
            return CliRunner().invoke(app, words)
        finally:
            forget()

    def line(self, code: str, *changes: str) -> str:
        """The one line with which a run ends."""
        result = self(code, *changes)
        assert result.exit_code == 1, result.output
        assert "Traceback" not in result.output
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        return line.removeprefix("error: ")

    def rows(self) -> list[dict[str, Any]]:
        files = sorted((self.out / "candidates").glob("*.parquet"))
        return [row for file in files for row in pq.read_table(file).to_pylist()]


HEAD = """
import numpy as np
import torch
from synthvlm.captions.rules.base import Measured, ModelRule, TextRule
from synthvlm.components.settings import Settings
from synthvlm.exporters import Exporter
from synthvlm.generators import GeneratedImages, Generator
from synthvlm.scorers import Scorer, Scores
from synthvlm.selectors import Selector
"""
