"""What a card or a report, which others get to see, may show of paths."""

from __future__ import annotations

from pathlib import PurePath

from synthvlm.training.recipe import TrainingRecipe

__all__ = ["published_name", "published_recipe", "published_where"]


def published_name(path: str) -> str:
    """A hub id or a path as it was spelt; of one that leads elsewhere its last part alone.

    Such a path (absolute, ``~`` or ``..`` in it) tells of the machine, often a user's name.
    """
    parts = PurePath(path).parts
    if PurePath(path).is_absolute() or ".." in parts or path.startswith("~"):
        return PurePath(path).name or "data"
    return path


def published_recipe(recipe: TrainingRecipe) -> TrainingRecipe:
    """The recipe with names for paths."""
    model = recipe.model
    names = {
        key: published_name(value)
        for key in ("start", "vision_tower", "language_model")
        if (value := getattr(model, key)) is not None
    }
    data = [
        source.model_copy(
            update={
                "path": published_name(source.path),
                "images": source.images and published_name(source.images),
            }
        )
        for source in recipe.data
    ]
    return recipe.model_copy(update={"model": model.model_copy(update=names), "data": data})


def published_where(where: str) -> str:
    """The place of a record (``FILE, record N (id X)``) with a name for its file."""
    file, comma, record = where.partition(", record ")
    return published_name(file) + comma + record
