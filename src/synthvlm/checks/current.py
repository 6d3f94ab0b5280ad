"""Refuses the data set of a run that is no longer what its recipe and earlier stages ask for."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from synthvlm.errors import RunFolderError
from synthvlm.run.kept_recipe import open_folder
from synthvlm.run_folder.folder import RECIPE_FILE
from synthvlm.stages.current import CurrentWork
from synthvlm.stages.data_set_folder import FOLDER

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["refuse_outdated", "refuse_outdated_files", "runs_of"]


def refuse_outdated(run: RunFolder, recipe: Recipe) -> None:
    """Check that the data set of a run is current; see ``CurrentWork.outdated``.

    Raises:
        RunFolderError: It is not: the line names the command that mends it.
    """
    outdated = CurrentWork(run, recipe).outdated
    if outdated is not None:
        raise RunFolderError(
            f"the data set of {run.url} is out of date (stage {outdated.stage}): "
            f"{outdated.reason}; bring it up to date: synthvlm export --out {shlex.quote(run.url)}"
        )


def refuse_outdated_files(path: str) -> None:
    """Check the run that a local folder or file belongs to.

    A run folder, its ``dataset/`` and what is in that belong to the run. A copy of ``dataset/``
    elsewhere belongs to none and is not checked, nor is one that has only the recipe beside it.

    Raises:
        RunFolderError: The data set of the run is out of date.
        RecipeError: The recipe of the run cannot be read, or names a plug-in that is not loaded.
    """
    for folder in runs_of(path):
        refuse_outdated(*open_folder(str(folder)))


def runs_of(name: str) -> Iterator[Path]:
    """The run folders that a local folder or file belongs to; see ``refuse_outdated_files``."""
    path = Path(name)
    if path.is_dir() and _is_run(path):
        yield path
    # By a link into `dataset/`, too: the parents of what it leads to are those that count.
    inside = path.resolve()
    for above in (inside, *inside.parents):
        if above.name == FOLDER and _is_run(above.parent):
            yield above.parent
            return


def _is_run(folder: Path) -> bool:
    return (folder / RECIPE_FILE).is_file() and (folder / "done").is_dir()
