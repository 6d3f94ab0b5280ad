"""The trained model as a folder for transformers, with its adapter, card and report."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthvlm.recipe_base import published_name
from synthvlm.training.checkpoints import sync

if TYPE_CHECKING:
    from synthvlm.training.facts import DataFacts, TrainingSummary
    from synthvlm.training.folder import TrainingFolder
    from synthvlm.training.model import Assembled
    from synthvlm.training.recipe import TrainingRecipe

__all__ = ["save_model"]


def save_model(
    recipe: TrainingRecipe,
    assembled: Assembled,
    facts: DataFacts,
    summary: TrainingSummary,
    folder: TrainingFolder,
) -> None:
    """Write ``model/`` and, of low-rank adapters, ``adapter/``; then the card and the report.

    Adapters are merged into ``model/``. Weights are in the precision of the recipe.
    """
    import torch

    model = assembled.model
    if recipe.lora is not None:
        with _fresh(folder.path / "adapter") as path:
            for config in model.peft_config.values():
                config.base_model_name_or_path = published_name(recipe.model.start or "")
            # "auto" would look at the base, by that name, for embeddings that are not trained here.
            model.save_pretrained(path, save_embedding_layers=False)
            (path / "README.md").unlink(missing_ok=True)  # peft's, with nothing filled in
        model = model.merge_and_unload()
    if recipe.optimisation.precision == "bfloat16":
        model = model.to(torch.bfloat16)
    with _fresh(folder.model) as path:
        model.config.dtype = model.dtype
        model.save_pretrained(path)
        assembled.processor.save_pretrained(path)
        if recipe.report:
            from synthvlm.training.card import model_card

            (path / "README.md").write_text(model_card(recipe, facts, summary), encoding="utf-8")
    if recipe.report:
        from synthvlm.training.report import render

        page = render(recipe, facts, summary, folder.logged())
        folder.write("report.html", page.encode("utf-8", "replace"))


class _fresh:
    """A folder that takes the place of an older one when it is whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f"{path.name}.partial")

    def __enter__(self) -> Path:
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir()
        return self._partial

    def __exit__(self, *error: Any) -> None:
        if error[0] is not None:
            shutil.rmtree(self._partial, ignore_errors=True)  # the disk may be full
            return
        mode = self._partial.stat().st_mode & 0o666
        for path in self._partial.iterdir():
            path.chmod(mode)  # safetensors lets nobody else read, whatever the umask
            sync(path)
        shutil.rmtree(self._path, ignore_errors=True)
        os.replace(self._partial, self._path)
