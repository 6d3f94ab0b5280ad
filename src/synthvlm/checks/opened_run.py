"""The run folder that a command is given, with the recipe that it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthvlm.errors import RunFolderError

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["opened_run"]


def opened_run(url: str) -> tuple[RunFolder, Recipe]:
    """A run folder and its recipe.

    Raises:
        RunFolderError: It is no run folder.
    """
    from synthvlm.pipeline import earlier_recipe
    from synthvlm.run_folder.folder import RECIPE_FILE, RunFolder

    run = RunFolder(url)
    recipe = earlier_recipe(run)
    if recipe is None:
        raise RunFolderError(
            f"{run.url} is not a run folder: it holds no {RECIPE_FILE}; give the folder that was "
            f"given to --out"
        )
    return run, recipe
