"""The commands of docs/tutorials/, in their order: run in small, or where they need more, read."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from synthvlm.cli import app
from synthvlm.recipe import Recipe
from synthvlm.training.recipe import TrainingRecipe

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
BLOCK = re.compile(
    r"(?:as `(?P<file>[\w.]+)`[^\n]*:\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```", re.M | re.S
)
#: What makes each small.
FEWER_IMAGES = ["--set", "generation.candidates=1", "--set", "generation.steps=1"]
FEWER = {
    "preview": FEWER_IMAGES,
    "run": FEWER_IMAGES,
    "select": FEWER_IMAGES,
    "export": FEWER_IMAGES,
    "train": [
        *("--set", "optimisation.global_batch_size=1"),
        *("--set", "optimisation.device_batch_size=1"),
    ],
}
#: Commands that answer for the machine, not for the tutorial.
NOT_RUN = {"doctor", "recipes"}


def commands(page: str) -> Iterator[tuple[str, list[str]]]:
    """What a line needs (or that it is refused), and its words; files are written on the way."""
    for block in BLOCK.finditer(page):
        if block["file"]:
            Path(block["file"]).write_text(block["text"])
        needs = ""
        for line in block["text"].splitlines() if block["kind"] == "sh" else []:
            if line.startswith("#"):
                needs = line.removeprefix("# ")
            elif line:
                words = [word for word in shlex.split(line) if not re.match("[A-Z_]+=", word)]
                yield needs, words


def read(words: list[str]) -> dict[str, Any]:
    """The options of a command, as the parser reads them."""
    group: Any = typer.main.get_command(app)
    command = group.commands[words[0]]
    parameters: dict[str, Any] = command.make_context(words[0], list(words[1:])).params
    return parameters


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_its_commands_do_what_it_says(
    tutorial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = 0
    for needs, (program, *words) in commands(tutorial.read_text("utf-8")):
        if program != "synthvlm":
            assert program in {"make", "pip", "."}
            assert program != "make" or f"\n{words[0]}:" in (ROOT / "Makefile").read_text()
            continue
        options = read(words)
        if words[0] == "train":
            TrainingRecipe.load(
                options["recipe"], data=options["data"], overrides=options["overrides"]
            )
        elif options.get("recipe"):
            sources = options["captions"]
            Recipe.load(options["recipe"], captions=sources, overrides=options["overrides"])
        if words[0] in NOT_RUN or needs.startswith("needs "):
            continue
        done = CliRunner().invoke(app, [*words, *FEWER.get(words[0], [])])
        expected = 1 if needs.startswith("refused") else 0
        assert done.exit_code == expected, (words, done.output)
        run += 1
    assert run >= 5


def test_the_notebooks_code_shows_what_is_kept_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs/tutorials/notebook.ipynb"
    names: dict[str, Any] = {}
    compared = 0
    for cell in json.loads(page.read_text("utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        code = ast.parse("".join(cell["source"]))
        last = code.body.pop()
        assert isinstance(last, ast.Expr)
        exec(compile(code, str(page), "exec"), names)
        value = eval(compile(ast.Expression(last.value), str(page), "eval"), names)
        kept = ["".join(one["data"]["text/plain"]) for one in cell["outputs"] if "data" in one]
        assert kept, cell["source"]
        if isinstance(value, bool | int | dict | list):
            assert value == ast.literal_eval(kept[-1]), "run: python docs/run_notebook.py"
            compared += 1
    assert compared == 5
    assert page.stat().st_size < 500_000
