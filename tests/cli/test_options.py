"""Options beside ``--set``, and how they meet."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import commands
from synthvlm.cli import app


def refused(*words: str) -> str:
    """The line with which a command refuses its options."""
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def test_what_is_selected_and_exported_is_said_by_options(
    exported_run: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(exported_run, tmp_path / "run"))
    # The recipe of the run has top_fraction, which --top-n replaces.
    words = ["export", "--out", out, "--top-n", "2", "--formats", "huggingface"]
    result = commands.run(words, tmp_path)
    assert result.code == 0, result.err
    assert len(pq.read_table(out / "selection.parquet")) == 2
    assert not (out / "dataset/llava.json").exists()
    assert len(list((out / "dataset/data").iterdir())) == 1


def test_options_that_exclude_each_other() -> None:
    assert refused("run", "--out", "x", "tiny", "--top-n", "9", "--top-fraction", "0.5") == (
        "error: --top-n 9 and --top-fraction 0.5 exclude each other: leave one out"
    )
    assert refused("run", "--out", "x", "tiny", "--recipe", "sdxl") == (
        "error: two recipes, tiny and --recipe sdxl: leave one out"
    )
    assert refused("run", "--out", "x", "--formats", "llava", "--set", "export.formats=[a]") == (
        "error: --formats and --set export.formats=[a] set the same: leave one out"
    )
    assert refused("run", "--out", "x", "--top-n", "3", "--set", "selection.top_n=4") == (
        "error: --top-n and --set selection.top_n=4 set the same: leave one out"
    )


@pytest.mark.parametrize(
    "words", [("plan",), ("tune", "--out", "x", "--grid", "generation.steps=1")]
)
def test_a_command_without_its_recipe_says_where_they_are_listed(words: tuple[str, ...]) -> None:
    assert refused(*words) == (
        "error: no recipe: name one of `synthvlm recipes`, or a YAML file, as RECIPE"
    )


def test_wrong_values_name_what_is_valid() -> None:
    assert "did you mean 'huggingface'?" in refused(
        "run", "tiny", "--out", "x", "--formats", "llava,hugingface"
    )
    assert "selection.top_fraction" in refused("run", "tiny", "--out", "x", "--top-fraction", "1.5")
    assert "there is no built-in recipe 'tyni'" in refused("plan", "--recipe", "tyni")
