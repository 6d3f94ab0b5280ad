"""Commands that train and evaluate models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthvlm.commands.named import run_url
from synthvlm.progress.notebook import default_progress

if TYPE_CHECKING:
    from synthvlm.evaluation.results import Results
    from synthvlm.progress.display import Progress
    from synthvlm.run import Run
    from synthvlm.training.recipe import TrainingRecipe
    from synthvlm.training.report import TrainingSummary

__all__ = ["evaluate", "train"]


def train(
    recipe: str | Path | TrainingRecipe,
    out: str | Path,
    *,
    data: Sequence[str | Path | Run] = (),
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> TrainingSummary:
    """Train a LLaVA on exported data, or go on where an earlier call was stopped.

    Args:
        recipe: Name of a built-in recipe for training, a YAML file, or a recipe.
        out: Folder of the training.
        data: Runs or data sets that replace the recipe's.
        overrides: Changes of the form ``KEY=VALUE``; these two are for a recipe by its name.
        progress: Shows the work.
    """
    from synthvlm.training.recipe import TrainingRecipe
    from synthvlm.training.train import train as fit

    if not isinstance(recipe, TrainingRecipe):
        paths = [run_url(one) for one in data]
        recipe = TrainingRecipe.load(recipe, data=paths, overrides=overrides)
    return fit(recipe, out, progress=progress)


def evaluate(
    model: str | Path,
    *,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Results:
    """Evaluate a model on benchmarks or questions of one's own.

    Args:
        model: Hub id, folder, or output folder of ``train``.
        out: Folder of answers and results: a new one, or one to go on with; None: none is kept.
        progress: Shows the work.
        **settings: Fields of ``synthvlm.evaluation.settings.EvaluationSettings``, such as
            ``benchmarks="easy-vqa"`` or ``questions="questions.jsonl"``.
    """
    from synthvlm.evaluation.evaluation import evaluate as ask
    from synthvlm.evaluation.settings import EvaluationSettings

    folder = None if out is None else str(out)
    shown = progress or default_progress()
    results, _ = ask(str(model), EvaluationSettings(**settings), out=folder, progress=shown)
    return results
