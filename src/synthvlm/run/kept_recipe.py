"""The recipe that a run folder holds: read, resumed with changes, or lost."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthvlm.errors import RecipeError, RunFolderError
from synthvlm.recipe import Recipe
from synthvlm.recipe.yaml_text import parse_recipe
from synthvlm.run_folder.folder import PIPED, RECIPE_FILE, RunFolder

if TYPE_CHECKING:
    from synthvlm.run_folder.storage import Clock

__all__ = ["LostRecipeError", "earlier_recipe", "fixed_settings", "open_folder", "resumed_recipe"]


class LostRecipeError(RunFolderError):
    """A run folder whose recipe is missing, empty or damaged."""

    def __init__(self, folder: RunFolder) -> None:
        """Say which, and what mends it."""
        card = ""
        if folder.exists("dataset/README.md"):
            card = " (dataset/README.md shows its settings)"
        super().__init__(
            f"{folder.path(RECIPE_FILE)} is missing, empty or damaged: put a copy back, or have it "
            f"written anew, and what is finished kept, with the recipe and options of this run"
            f"{card}: synthvlm run RECIPE --out {shlex.quote(folder.url)}"
        )


def earlier_recipe(folder: RunFolder) -> Recipe | None:
    """The recipe of a run folder; None if there is no run yet.

    Raises:
        RunFolderError: The recipe is missing, empty or damaged.
        RecipeError: It is not one of this version with the plug-ins that are loaded.
    """
    values = _earlier_values(folder)
    if values is None:
        return None
    recipe = Recipe.from_values(values, folder.path(RECIPE_FILE))
    # Captions that were piped in lie in the folder, which may have been moved.
    sources = []
    for source in recipe.sources:
        piped = re.search(rf"(?:^|[/\\])({PIPED}/[0-9a-f]{{16}}\.\w+)$", source.path)
        if piped and folder.exists(piped[1]):
            source = source.model_copy(update={"path": folder.path(piped[1])})
        sources.append(source)
    return recipe.model_copy(update={"sources": sources})


def fixed_settings(folder: RunFolder) -> Recipe | None:
    """The settings that an earlier run fixed, in a recipe that is otherwise the default one.

    Other settings are left out, because they may name plug-ins that are no longer installed.
    """
    values = _earlier_values(folder)
    if values is None:
        return None
    values = {name: values[name] for name in ("sources", "run", "generation") if name in values}
    if isinstance(values.get("generation"), dict):
        fixed = ("dtype", "model")
        values["generation"] = {n: v for n, v in values["generation"].items() if n in fixed}
    return Recipe.from_values(values, folder.path(RECIPE_FILE))


def _earlier_values(folder: RunFolder) -> dict[str, Any] | None:
    if not folder.exists(RECIPE_FILE):
        if folder.holds_work():
            raise LostRecipeError(folder)
        return None
    try:
        values = parse_recipe(folder.read(RECIPE_FILE).decode("utf-8"), folder.path(RECIPE_FILE))
    except (RecipeError, UnicodeDecodeError):
        raise LostRecipeError(folder) from None
    # A run writes every section; the last one is missing where the end was cut off.
    if not isinstance(values.get("run"), dict) and folder.holds_work():
        raise LostRecipeError(folder)
    return values


def open_folder(url: str, clock: Clock | None = None) -> tuple[RunFolder, Recipe]:
    """An existing run folder and its recipe.

    Args:
        url: The folder, a local path or any fsspec URL.
        clock: For pauses between attempts.

    Raises:
        RunFolderError: It is not a run folder.
    """
    run = RunFolder(url, clock=clock)
    recipe = earlier_recipe(run)
    if recipe is None:
        raise RunFolderError(
            f"{run.url} is not a run folder: it contains no {RECIPE_FILE}; use the folder given "
            f"to --out"
        )
    return run, recipe


def resumed_recipe(
    out: str | Path,
    *,
    captions: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    limit: int | None = None,
) -> Recipe:
    """The recipe of an existing run with changes, or the default one with captions for a new run.

    Raises:
        RunFolderError: There is no run yet, and no captions are named for a new one.
    """
    old = earlier_recipe(RunFolder(out))
    if old is None:
        if not captions and not any(change.startswith("sources") for change in overrides):
            raise RunFolderError(
                f"{out} holds no run yet: correct --out, or begin one with a recipe or captions: "
                f"synthvlm run RECIPE --out {shlex.quote(str(out))}, or --captions FILE"
            )
        return Recipe.load(captions=captions, overrides=overrides, limit=limit)
    return old.changed(captions=captions, overrides=overrides, limit=limit)
