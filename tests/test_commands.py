"""The commands as functions: they have the words of the command line."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest
import typer

from synthvlm import commands
from synthvlm.cli import app
from synthvlm.evaluation.settings import EvaluationSettings

#: Commands whose function has another name: `eval` is one of Python, `captions` a package.
NAMES = {"evaluate": "eval", "read_captions": "captions"}
#: Words of Python for options that may be given several times, or are a word of Python.
WORDS = {"set": "overrides", "scorer": "scorers", "format": "formats", "map": "map_points"}
#: What is said by `Recipe.load`, by `load_plugin` or by what is done with the result.
ELSEWHERE = {
    "recipe", "captions", "text_field", "no_header", "delimiter", "limit", "plugin",
    "json", "debug", "help", "watch",
}  # fmt: skip


@pytest.mark.parametrize("name", commands.__all__)
def test_a_function_has_the_words_of_its_command(name: str) -> None:
    group = typer.main.get_command(app)
    command = group.commands[NAMES.get(name, name)]  # type: ignore[attr-defined]
    parameters = set(inspect.signature(getattr(commands, name)).parameters)
    if "settings" in parameters:
        parameters |= {field.name for field in fields(EvaluationSettings)}
    with_recipe = "recipe" in parameters and name != "train"
    for parameter in command.params:
        word = max((opt.lstrip("-") for opt in parameter.opts), key=len).replace("-", "_")
        word = WORDS.get(word, word)
        if word in ELSEWHERE or (with_recipe and word in ("overrides", "formats")):
            continue
        assert word in parameters, f"{name}: {word}"
