"""Shell completion: names of recipes, settings and components; bash's words with ``=``."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any

import typer

from synthvlm.errors import SynthVLMError
from synthvlm.safe_text import printable

if TYPE_CHECKING:
    from synthvlm.recipe.files import RecipeFiles

__all__ = [
    "bash_completion",
    "complete_any_recipe",
    "complete_caption_format",
    "complete_export",
    "complete_exporter",
    "complete_exporters",
    "complete_grid",
    "complete_recipe",
    "complete_scorer",
    "complete_scoring",
    "complete_setting",
    "complete_training_recipe",
    "complete_training_setting",
    "joined_words",
]

_Items = list[tuple[str, str]]

#: Names of environment variables by which the shell asks: what bash says of its words.
_WORDS, _PLACE = "COMP_WORDS", "COMP_CWORD"


@contextmanager
def bash_completion() -> Iterator[None]:
    """Where bash asks for completion: hand it what it replaces of a word ``KEY=VALUE``."""
    if os.environ.get("_SYNTHVLM_COMPLETE") != "complete_bash":
        yield
        return
    before, printed = joined_words(os.environ), io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            print(printable(line.removeprefix(before)))


def joined_words(environment: MutableMapping[str, str]) -> str:
    """Make one word of ``KEY=VALUE``, of which bash makes three, in what bash says of its words.

    Args:
        environment: Of the process; it is changed.

    Returns:
        What of the word under the cursor bash does not replace: ``KEY=``, or an empty text.
    """
    words = environment.get(_WORDS, "").split("\n")
    place = int(environment.get(_PLACE, len(words)))
    joined: list[str] = []
    cursor, before = place, ""
    for number, word in enumerate(words[: place + 1]):
        follows = number > 0 and words[number - 1] == "=" and len(joined) > 1
        if len(joined) > 1 and (word == "=" or follows):
            joined[-1] += word
        else:
            joined.append(word)
        if number == place:
            cursor = len(joined) - 1
            key, equals, _ = joined[-1].partition("=")
            before = key + equals if equals and not key.startswith("-") else ""
    environment[_WORDS] = "\n".join([*joined, *words[place + 1 :]])
    environment[_PLACE] = str(cursor)
    return before


def complete_recipe(incomplete: str) -> _Items:
    """Names of built-in recipes; the shell completes files."""
    from synthvlm.recipe import RECIPES

    return _starting(RECIPES.lines().items(), incomplete)


def complete_any_recipe(incomplete: str) -> _Items:
    """Names of all built-in recipes."""
    return [*complete_recipe(incomplete), *complete_training_recipe(incomplete)]


def complete_training_recipe(incomplete: str) -> _Items:
    """Names of built-in recipes for training."""
    from synthvlm.training.recipe import TRAINING_RECIPES

    return _starting(TRAINING_RECIPES.lines().items(), incomplete)


def complete_caption_format(incomplete: str) -> _Items:
    """Formats of caption files."""
    return [
        (value.partition("=")[2], about)
        for value, about in _of_recipe(None, f"sources.0.format={incomplete}")
    ]


def complete_scorer(incomplete: str) -> _Items:
    """Names of scorers."""
    return _components("scorer", incomplete)


def complete_exporter(incomplete: str) -> _Items:
    """Names of formats of data sets."""
    return _components("exporter", incomplete)


def complete_exporters(incomplete: str) -> _Items:
    """The last of several names of formats, with commas between."""
    before, comma, last = incomplete.rpartition(",")
    given = before.split(",")
    items = _components("exporter", last)
    return [(before + comma + name, about) for name, about in items if name not in given]


def complete_setting(context: typer.Context, incomplete: str) -> _Items:
    """Keys of settings, and where one is whole its values; those of the named recipe first."""
    return _of_recipe(context, incomplete)


def complete_grid(context: typer.Context, incomplete: str) -> _Items:
    """As ``complete_setting``, of settings of generation."""
    return _of_recipe(context, incomplete, "generation.")


def complete_scoring(context: typer.Context, incomplete: str) -> _Items:
    """As ``complete_setting``, of settings of scorers."""
    return _of_recipe(context, incomplete, "scoring.")


def complete_export(context: typer.Context, incomplete: str) -> _Items:
    """As ``complete_setting``, of settings of the export."""
    return _of_recipe(None, incomplete, "export.")


def complete_training_setting(context: typer.Context, incomplete: str) -> _Items:
    """As ``complete_setting``, of recipes for training."""
    from synthvlm.training.recipe import TRAINING_RECIPES, TrainingRecipe

    return _settings(TrainingRecipe, _present(TRAINING_RECIPES, context), incomplete)


def _of_recipe(context: typer.Context | None, incomplete: str, section: str = "") -> _Items:
    from synthvlm.recipe import RECIPES, Recipe

    return _settings(Recipe, _present(RECIPES, context), incomplete, section)


def _present(recipes: RecipeFiles, context: typer.Context | None) -> dict[str, Any]:
    """What the recipe sets that the command names."""
    from synthvlm.recipe.yaml_text import parse_recipe

    if context is None:
        return {}
    # An option that lacks its value leaves arguments unassigned.
    options = context.params.get("recipe"), context.params.get("recipe_option")
    for named in filter(None, (*options, *context.args[:1])):
        with suppress(SynthVLMError):
            label, text = recipes.read(named)
            return parse_recipe(text, label)
    return {}


def _settings(model: Any, values: dict[str, Any], incomplete: str, section: str = "") -> _Items:
    """What a ``KEY=VALUE`` that is begun may become.

    Of a key that is whole, or the only one, the values follow: so the shell adds no space to it.
    """
    from synthvlm.recipe.listing import listed_settings

    key, equals, _ = incomplete.partition("=")
    all_keys = {one.key: one for one in listed_settings(model) if one.key.startswith(section)}
    keys = {n: s for n, s in all_keys.items() if (n == key if equals else n.startswith(key))}
    if len(keys) != 1:
        return [(name, one.field.description or "") for name, one in keys.items()]
    (setting,) = keys.values()
    about = setting.field.description or ""
    value = _value(values, setting.key)
    present = _text(setting.field.default if value is None else value)
    choices = list(dict.fromkeys([*([] if present is None else [present]), *setting.choices]))
    # The bare key goes on, whatever the value is to be.
    bare = [] if equals else [(f"{setting.key}=", about)]
    items = [(f"{setting.key}={value}", about) for value in choices]
    return bare + _starting(items, incomplete)


def _value(values: Any, key: str) -> Any:
    """The value of a key among nested ones; None where it is not set."""
    for part in key.split("."):
        if isinstance(values, list):
            values = dict(zip(map(str, range(len(values))), values, strict=True))
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _text(value: Any) -> str | None:
    """A value as ``--set`` takes it; None where it is of another kind, or has blanks."""
    if not isinstance(value, str | int | float):
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text and not any(map(str.isspace, text)) else None


def _components(kind: str, incomplete: str) -> _Items:
    import synthvlm.recipe  # noqa: F401  (which makes the tables known)
    from synthvlm.components.table import listed

    return _starting(((one.name, one.about) for one in listed(kind)), incomplete)


def _starting(items: Iterable[tuple[str, str]], incomplete: str) -> _Items:
    return [item for item in items if item[0].startswith(incomplete)]
