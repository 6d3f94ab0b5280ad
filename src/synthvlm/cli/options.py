"""The command-line application, and the options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Optional

import typer

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe

__all__ = [
    "CaptionsOption",
    "DebugOption",
    "DeviceOption",
    "EngineOption",
    "JsonOption",
    "LimitOption",
    "MetricsOption",
    "OutOption",
    "PluginOption",
    "RecipeArgument",
    "RecipeToTry",
    "RevisionOption",
    "RunArgument",
    "SetOption",
    "WorkersOption",
    "app",
    "check_lasting",
    "load_plugins",
    "load_recipe",
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
    typer.Argument(help="A built-in recipe (`synthvlm recipes`) or a YAML file.", metavar="RECIPE"),
]
RecipeToTry = Annotated[
    str, typer.Argument(help="A built-in recipe or a YAML file.", metavar="RECIPE")
]
CaptionsOption = Annotated[
    list[str],
    typer.Option(help="Caption file (.txt, .json, .jsonl, .csv, .tsv, .parquet); repeatable."),
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
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
DeviceOption = Annotated[str, typer.Option(help="Torch device, or auto.")]
RevisionOption = Annotated[Optional[str], typer.Option(help="Revision of the model on the hub.")]  # noqa: UP045


def check_lasting(url: str) -> None:
    """Check that what a command writes to a folder is there when the command has ended.

    Raises:
        RunFolderError: It is kept in memory.
    """
    from synthvlm.errors import RunFolderError

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


def load_recipe(
    recipe: str,
    *,
    captions: list[str],
    overrides: list[str],
    limit: int | None,
    plugins: list[str],
) -> Recipe:
    """The recipe that a command is given, with the components that it may name.

    Raises:
        PluginError: As ``load_plugins``.
        RecipeError: There is no such recipe, or a setting is wrong.
    """
    from synthvlm.recipe import Recipe

    load_plugins(plugins)
    return Recipe.load(recipe, captions=captions, overrides=overrides, limit=limit)
