"""The report of a training: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from synthvlm.recipe_base import published_name
from synthvlm.training.curves import curve
from synthvlm.training.versions import versions

if TYPE_CHECKING:
    import jinja2

    from synthvlm.training.facts import DataFacts, TrainingSummary
    from synthvlm.training.recipe import TrainingRecipe

__all__ = ["render"]


def render(
    recipe: TrainingRecipe,
    facts: DataFacts,
    summary: TrainingSummary,
    rows: Sequence[Mapping[str, Any]],
) -> str:
    """The page as HTML.

    Args:
        recipe: That was trained.
        facts: Of its data.
        summary: What it came to.
        rows: Of ``log.jsonl``, in order.
    """
    recipe = recipe.published()
    charts = [
        (title, curve(_points(rows, key), label=title))
        for key, title in (
            ("loss", "Loss"),
            ("learning_rate", "Learning rate"),
            ("gradient_norm", "Gradient norm"),
            ("token_accuracy", "Share of trained tokens that were the likeliest"),
        )
        if _points(rows, key)
    ]
    return _template().render(
        recipe=recipe,
        facts=facts,
        summary=summary,
        charts=charts,
        versions=versions(),
        settings=recipe.to_yaml(),
        place=_place,
    )


def _place(where: str) -> str:
    """The place of a record (``FILE, record N (id X)``) with a name for its file."""
    file, comma, record = where.partition(", record ")
    return published_name(file) + comma + record


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    return [(row["step"], row[key]) for row in rows if row[key] is not None]


@cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("synthvlm", "training"), autoescape=True, trim_blocks=True
    )
    return environment.get_template("report.html.jinja")
