"""The command line's application, and the options that several commands have."""

from __future__ import annotations

from typing import Annotated, Literal, Optional

import typer

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
    "load_plugins",
]

app = typer.Typer(
    name="synthvlm",
    help="Curated synthetic image-caption pairs for vision-language models.",
    no_args_is_help=True,
    add_completion=False,
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
    typer.Option(help="Caption file: .txt .json .jsonl .csv .tsv .parquet; may be repeated."),
]
PluginOption = Annotated[
    list[str],
    typer.Option(
        "--plugin", help="Python file with components of yours; may be repeated.", metavar="FILE.py"
    ),
]
OutOption = Annotated[str, typer.Option(help="The run folder: a new one, or one to resume.")]
SetOption = Annotated[
    list[str],
    typer.Option("--set", help="Change a setting, e.g. generation.steps=30.", metavar="KEY=VALUE"),
]
LimitOption = Annotated[Optional[int], typer.Option(min=1, help="Input captions to read.")]  # noqa: UP045
EngineOption = Annotated[
    Literal["local", "ray"], typer.Option(help="Where images are made: here, or on a Ray cluster.")
]
WorkersOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=1, help="Generation workers; default: one for each GPU, at least one."),
]
MetricsOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--metrics", help="Answer Prometheus there.", metavar="HOST:PORT"),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
RunArgument = Annotated[str, typer.Argument(help="The run folder.", metavar="RUN")]
JsonOption = Annotated[bool, typer.Option("--json", help="For machines; nothing else.")]
DeviceOption = Annotated[str, typer.Option(help="Torch device, or auto.")]
RevisionOption = Annotated[Optional[str], typer.Option(help="Of the model on the hub.")]  # noqa: UP045


def load_plugins(files: list[str]) -> None:
    """Add the components of files to their tables.

    Raises:
        PluginError: A file cannot be used.
    """
    if files:
        from synthvlm import load_plugin

        for file in files:
            load_plugin(file)
