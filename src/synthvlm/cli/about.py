"""Commands about the package itself."""

from __future__ import annotations

import sys
from typing import Annotated, Optional

import typer

from synthvlm.cli.errors import explained
from synthvlm.cli.options import (
    DebugOption,
    app,
)


@app.command()
def recipes(
    name: Annotated[Optional[str], typer.Argument(help="Print this one.")] = None,  # noqa: UP045
    debug: DebugOption = False,
) -> None:
    """List the built-in recipes, or print one to edit: `synthvlm recipes sdxl > my.yaml`."""
    from synthvlm.recipe import RECIPES
    from synthvlm.training.recipe import TRAINING_RECIPES

    with explained(debug):
        runs, trainings = RECIPES.lines(), TRAINING_RECIPES.lines()
        if name is not None:
            sys.stdout.write((TRAINING_RECIPES if name in trainings else RECIPES).text(name))
            return
        width = max(map(len, [*runs, *trainings])) + 2
        for found, line in runs.items():
            print(f"{found:<{width}}{line}")
        print("\nof `synthvlm train`:")
        for found, line in trainings.items():
            print(f"{found:<{width}}{line}")


@app.command()
def doctor(debug: DebugOption = False) -> None:
    """Say what works here, and what to install for the rest."""
    from synthvlm.doctor import diagnose

    with explained(debug):
        if not diagnose():
            raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from synthvlm import __version__

        print(f"synthvlm {__version__}")
        raise typer.Exit
