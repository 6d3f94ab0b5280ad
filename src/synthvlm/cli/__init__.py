"""The command line. It is thin: commands call functions of other packages.

Commands about the package itself are in this module.
"""

# ruff: noqa: I001  (the help lists commands in the order of imports)

from __future__ import annotations

import io
import sys
from typing import Annotated, Optional

import typer

from synthvlm.cli import stages, preview, runs, captions, pages, rating, models  # noqa: F401
from synthvlm.cli.completion import bash_completion, complete_any_recipe
from synthvlm.cli.errors import explained
from synthvlm.cli.options import DebugOption, JsonOption, PluginOption, app, load_plugins
from synthvlm.progress.terminal import quiet_libraries
from synthvlm.safe_text import printable

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line."""
    # A character that the terminal cannot show must not stop a command.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    quiet_libraries()
    with bash_completion():
        app(prog_name="synthvlm")  # by `python -m synthvlm`, too


@app.command()
def recipes(
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(
            help="Print this recipe.",
            metavar="NAME",
            autocompletion=complete_any_recipe,
        ),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """List the built-in recipes, or print one to edit it: `synthvlm recipes sdxl > my.yaml`."""
    from synthvlm.recipe import RECIPES
    from synthvlm.training.recipe import TRAINING_RECIPES

    with explained(debug):
        for_runs, for_training = RECIPES.lines(), TRAINING_RECIPES.lines()
        if name is not None:
            sys.stdout.write((TRAINING_RECIPES if name in for_training else RECIPES).text(name))
            return
        width = max(map(len, [*for_runs, *for_training])) + 2
        for title, lines in (
            ("Recipes for `synthvlm run`:", for_runs),
            ("\nRecipes for `synthvlm train`:", for_training),
        ):
            print(title)
            for recipe, line in lines.items():
                print(f"  {recipe:<{width}}{line}")


@app.command()
def components(
    as_json: JsonOption = False,
    plugins: PluginOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """List what recipes can name: rules, scorers, generators, selectors, exporters, plug-ins."""
    with explained(debug):
        import json
        from dataclasses import asdict

        import synthvlm.recipe  # noqa: F401  (which makes the tables known)
        from synthvlm.components.table import listed
        from synthvlm.estimates import aligned

        load_plugins(plugins)
        kinds = ("rule", "generator", "scorer", "selector", "exporter")
        components = [component for kind in kinds for component in listed(kind)]
        if as_json:
            print(printable(json.dumps([asdict(component) for component in components])))
            return
        rows = [(c.kind, c.name, c.label, c.origin, c.problem or c.about) for c in components]
        print(printable("\n".join(aligned(rows, left=5))))


@app.command()
def doctor(debug: DebugOption = False) -> None:
    """Check this installation, and show what to install for what is missing."""
    from synthvlm.doctor import diagnose

    with explained(debug):
        if not diagnose():
            raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from synthvlm import __version__

        print(f"synthvlm {__version__}")
        raise typer.Exit
