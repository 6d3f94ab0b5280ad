"""The command-line application, and the options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, Protocol

import typer

from synthvlm.cli import completion
from synthvlm.errors import RecipeError, RunFolderError
from synthvlm.safe_text import printable

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe

__all__ = [
    "BrowserOption",
    "CaptionFiles",
    "CaptionsOption",
    "DebugOption",
    "DelimiterOption",
    "DeviceOption",
    "EngineOption",
    "ExportFormatsOption",
    "FormatOption",
    "JsonOption",
    "LimitOption",
    "MetricsOption",
    "NoHeaderOption",
    "OutOption",
    "PluginOption",
    "PortOption",
    "RecipeArgument",
    "RecipeOption",
    "RevisionOption",
    "RunArgument",
    "SetOption",
    "TextFieldOption",
    "TopFractionOption",
    "TopNOption",
    "WorkersOption",
    "app",
    "check_lasting",
    "data_set_overrides",
    "load_plugins",
    "named_recipe",
    "recipe_to_try",
    "required_recipe",
    "show",
]

app = typer.Typer(
    name="synthvlm",
    help="Curated synthetic image-caption pairs for vision-language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# typer reads annotations at run time, where Python 3.11's `X | None` works too; Optional keeps
# the help's type names short.
RecipeArgument = Annotated[
    Optional[str],  # noqa: UP045
    typer.Argument(
        help="A built-in recipe (`synthvlm recipes`) or a YAML file.",
        metavar="RECIPE",
        autocompletion=completion.complete_recipe,
    ),
]
RecipeOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--recipe",
        help="The same as RECIPE.",
        metavar="RECIPE",
        autocompletion=completion.complete_recipe,
    ),
]
CaptionsOption = Annotated[
    list[str],
    typer.Option(
        help="Caption file (.txt, .json, .jsonl, .csv, .tsv, .parquet); - is standard input; "
        "repeatable."
    ),
]
FormatOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--format",
        help="Format of the caption files, e.g. flickr, coco; default: by ending and content.",
        autocompletion=completion.complete_caption_format,
    ),
]
TextFieldOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--text-field", help="Column (name, or number from 1) or key of captions in these files."
    ),
]
NoHeaderOption = Annotated[
    bool, typer.Option("--no-header", help="The first row of these CSV or TSV files is data.")
]
DelimiterOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--delimiter", help="Between columns of these CSV or TSV files, e.g. ';'."),
]
PluginOption = Annotated[
    list[str],
    typer.Option(
        "--plugin", help="Python file with your own components; repeatable.", metavar="FILE.py"
    ),
]
OutOption = Annotated[str, typer.Option(help="Run folder; an existing run is resumed.")]
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        help="Override a setting, e.g. generation.steps=30; repeatable.",
        metavar="KEY=VALUE",
        autocompletion=completion.complete_setting,
    ),
]
TopNOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--top-n", min=1, help="Number of pairs to select, the best by score."),
]
TopFractionOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--top-fraction", help="Share of pairs to select, the best by score."),
]
ExportFormatsOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--formats",
        help="Formats of the data set, e.g. llava,huggingface (`synthvlm components`).",
        metavar="NAME,NAME",
        autocompletion=completion.complete_exporters,
    ),
]
LimitOption = Annotated[Optional[int], typer.Option(min=1, help="Read only this many captions.")]  # noqa: UP045
EngineOption = Annotated[
    Literal["local", "ray"],
    typer.Option(help="Where to generate: on this machine, or on a Ray cluster."),
]
WorkersOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=1, help="Number of generation workers; default: one per GPU."),
]
MetricsOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--metrics", help="Serve Prometheus metrics at this address.", metavar="HOST:PORT"
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show full tracebacks.")]
RunArgument = Annotated[str, typer.Argument(help="Run folder.", metavar="RUN")]
PortOption = Annotated[
    int, typer.Option(min=0, max=65535, help="Where it is served; 0: a free one.")
]
BrowserOption = Annotated[
    bool,
    typer.Option("--browser/--no-browser", help="Open the browser, or only print the address."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
DeviceOption = Annotated[str, typer.Option(help="Torch device, or auto.")]
RevisionOption = Annotated[Optional[str], typer.Option(help="Revision of the model on the hub.")]  # noqa: UP045


class Result(Protocol):
    """What a command found, for people and for machines."""

    def text(self) -> str:
        """Text to print."""

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""


@dataclass(frozen=True, slots=True)
class CaptionFiles:
    """Files of captions, and what their options say of all of them.

    Attributes:
        paths: The files; ``-`` is standard input.
        format: As ``sources.N.format``.
        text_field: As ``sources.N.text_field``.
        no_header: As ``sources.N.header: false``.
        delimiter: As ``sources.N.delimiter``.
    """

    paths: list[str]
    format: str | None = None
    text_field: str | None = None
    no_header: bool = False
    delimiter: str | None = None

    def overrides(self) -> list[str]:
        """The options as changes of a recipe whose sources are the files.

        Raises:
            RecipeError: There are options and no files.
        """
        settings: dict[str, object] = {
            "format": self.format,
            "text_field": self.text_field,
            "header": False if self.no_header else None,
            "delimiter": self.delimiter,
        }
        settings = {name: value for name, value in settings.items() if value is not None}
        if settings and not self.paths:
            name, value = next(iter(settings.items()))
            raise RecipeError(
                f"--format, --text-field, --no-header and --delimiter are about --captions: name "
                f"these too, or give --set 'sources.0.{name}={json.dumps(value)}'"
            )
        from synthvlm.recipe.sources import STDIN

        changes = []
        for number, path in enumerate(self.paths):
            names = {"name": "stdin", **settings} if path == STDIN else settings
            changes += [f"sources.{number}.{name}={json.dumps(v)}" for name, v in names.items()]
        return changes


def show(result: Result, as_json: bool) -> None:
    """Print what a command found."""
    print(printable(json.dumps(result.values()) if as_json else result.text()))


def named_recipe(argument: str | None, option: str | None) -> str | None:
    """The recipe that a command is given, by its argument or by ``--recipe``.

    Raises:
        RecipeError: By both.
    """
    if argument is not None and option is not None:
        raise RecipeError(f"two recipes, {argument} and --recipe {option}: leave one out")
    return argument or option


def required_recipe(argument: str | None, option: str | None) -> str:
    """As ``named_recipe``, where there has to be one.

    Raises:
        RecipeError: There is none, or there are two.
    """
    recipe = named_recipe(argument, option)
    if recipe is None:
        raise RecipeError("no recipe: name one of `synthvlm recipes`, or a YAML file, as RECIPE")
    return recipe


def data_set_overrides(
    overrides: list[str], top_n: int | None, top_fraction: float | None, formats: str | None
) -> list[str]:
    """The options that say which pairs are the data set, and in which formats, as changes.

    A number and a fraction replace each other, whichever the recipe has.

    Args:
        overrides: Those of ``--set``.
        top_n: As ``selection.top_n``.
        top_fraction: As ``selection.top_fraction``.
        formats: As ``export.formats``, with commas between.

    Raises:
        RecipeError: Two options set the same.
    """
    if top_n is not None and top_fraction is not None:
        raise RecipeError(
            f"--top-n {top_n} and --top-fraction {top_fraction:g} exclude each other: leave one out"
        )
    changes: dict[str, object] = {}
    if top_n is not None:
        changes = {"selection.top_fraction": None, "selection.top_n": top_n}
    if top_fraction is not None:
        changes = {"selection.top_n": None, "selection.top_fraction": top_fraction}
    options = dict.fromkeys(changes, f"--{'top-fraction' if top_n is None else 'top-n'}")
    if formats is not None:
        changes["export.formats"] = [name.strip() for name in formats.split(",") if name.strip()]
        options["export.formats"] = "--formats"
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key in changes:
            raise RecipeError(f"{options[key]} and --set {override} set the same: leave one out")
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def check_lasting(url: str) -> None:
    """Check that what a command writes to a folder is there when the command has ended.

    Raises:
        RunFolderError: It is kept in memory.
    """
    if url.partition("://")[:2] == ("memory", "://"):
        raise RunFolderError(
            f"{url} is in the memory of this command, and gone when it ends: name a folder or a "
            f"bucket"
        )


def load_plugins(files: list[str]) -> None:
    """Register the components defined in Python files.

    Raises:
        PluginError: A file cannot be loaded, or defines no valid component.
    """
    if files:
        from synthvlm import load_plugin

        for file in files:
            load_plugin(file)


@contextmanager
def recipe_to_try(
    recipe: str, files: CaptionFiles, overrides: list[str], limit: int | None, plugins: list[str]
) -> Iterator[Recipe]:
    """The recipe of a command without a run folder; captions piped in are a file of the context.

    Raises:
        CaptionSourceError: Nothing is piped in.
        PluginError: As ``load_plugins``.
        RecipeError: There is no such recipe, or a setting is wrong.
    """
    from synthvlm.recipe import Recipe
    from synthvlm.recipe.piped import captions_piped_in

    load_plugins(plugins)
    changes = [*files.overrides(), *overrides]
    settings = Recipe.load(recipe, captions=files.paths, overrides=changes, limit=limit)
    with captions_piped_in(settings) as (whole, _):
        yield whole
