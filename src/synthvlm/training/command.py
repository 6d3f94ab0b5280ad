"""The command ``train``, also where it runs in several processes."""

from __future__ import annotations

import os
from collections.abc import Sequence

from synthvlm.errors import SynthVLMError
from synthvlm.progress.display import terminal_progress
from synthvlm.training.recipe import TrainingRecipe

__all__ = ["train_command"]


def train_command(recipe: str, out: str, *, data: Sequence[str], changes: Sequence[str]) -> None:
    """Train as ``synthvlm train`` does; of several processes the main one alone prints.

    Args:
        recipe: Name of a built-in recipe, or a YAML file.
        out: Folder of the training.
        data: LLaVA JSON files or run folders that replace the recipe's.
        changes: Of settings, ``KEY=VALUE``.

    Raises:
        SynthVLMError: In the main process.
        SystemExit: In another one, which has nothing to say that the main one does not.
    """
    from synthvlm.training.train import train

    if os.environ.get("RANK", "0") != "0":
        try:
            train(TrainingRecipe.load(recipe, data=data, overrides=changes), out)
        except SynthVLMError:
            raise SystemExit(1) from None
        return
    settings = TrainingRecipe.load(recipe, data=data, overrides=changes)
    with terminal_progress() as progress:
        summary = train(settings, out, progress=progress)
    progress.note(f"model:  {summary.model}")
    if settings.report:
        progress.note(f"report: {os.path.join(os.path.dirname(summary.model), 'report.html')}")
