"""Checkpoints, complete or as good as not there; and the trained model as a folder.

A checkpoint holds the trained weights and where the training is. The frozen weights are in none:
they come from where the first start took them. The marker of a checkpoint is written last and holds
the SHA-256 of its files, so that damage is noticed before anything is loaded from it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from synthvlm.components.settings import published_name
from synthvlm.errors import RunFolderError, first_line
from synthvlm.training.model import trained_weights
from synthvlm.training.report import TrainingSummary, model_card, render

if TYPE_CHECKING:
    from synthvlm.training.folder import TrainingFolder
    from synthvlm.training.model import Assembled
    from synthvlm.training.recipe import TrainingRecipe
    from synthvlm.training.sources import DataFacts

__all__ = [
    "complete_checkpoints",
    "drop_damaged",
    "load_trained",
    "mark_complete",
    "save_model",
    "save_trained",
    "sweep",
    "sync",
]

_WEIGHTS_FILE = "trained.safetensors"
_MARKER = "complete"
_NAME = re.compile(r"checkpoint-(\d+)")


def save_trained(model: Any, folder: str, state: dict[str, Any] | None = None) -> None:
    """Write the weights that are trained; ``state`` where they had to be gathered first."""
    from safetensors.torch import save_file

    os.makedirs(folder, exist_ok=True)
    weights = trained_weights(model)
    if state is not None:
        weights = {name: state[name] for name in weights}
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    save_file(tensors, os.path.join(folder, _WEIGHTS_FILE), metadata={"format": "pt"})


def load_trained(model: Any, folder: str) -> None:
    """Put a checkpoint's weights into the model.

    ``Trainer`` would not: its own way of resuming leaves a LLaVA's weights as they are, without an
    error.

    Raises:
        RunFolderError: They cannot be loaded, or are of another model.
    """
    import torch
    from safetensors.torch import load_file

    path = os.path.join(folder, _WEIGHTS_FILE)
    try:
        saved = load_file(path)
    except Exception as error:
        raise RunFolderError(f"{path} cannot be loaded: {first_line(error)}") from None
    weights = trained_weights(model)
    if {n: w.shape for n, w in weights.items()} != {n: w.shape for n, w in saved.items()}:
        raise RunFolderError(f"{path} is of another model: take another --out")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(saved[name])


def mark_complete(folder: str) -> None:
    """Write the marker, with the checksums of a checkpoint's files, once all are on disk."""
    checksums = {}
    for path in sorted(Path(folder).iterdir()):
        sync(path)
        checksums[path.name] = _checksum(path)
    marker = Path(folder) / _MARKER
    partial = marker.with_suffix(".partial")
    partial.write_bytes(orjson.dumps(checksums))
    sync(partial)
    os.replace(partial, marker)
    sync(Path(folder))


def complete_checkpoints(folder: str | os.PathLike[str]) -> list[tuple[int, str]]:
    """Step and folder of each complete checkpoint, the newest last."""
    return sorted((step, path) for step, path in _all(folder) if (Path(path) / _MARKER).is_file())


def drop_damaged(folder: str | os.PathLike[str], note: Callable[[str], object]) -> None:
    """Delete the newest checkpoints up to one whose files are as they were written.

    Args:
        folder: Of the checkpoints.
        note: Gets a line for each that was deleted.

    Raises:
        RunFolderError: None is sound, so that the training would begin again; or one cannot be
            read. Nothing was deleted.
    """
    damaged: dict[str, str] = {}
    for _, path in reversed(complete_checkpoints(folder)):
        problem = _damage(Path(path))
        if problem is None:
            break
        damaged[path] = problem
    else:
        if damaged:
            path, problem = next(iter(damaged.items()))
            raise RunFolderError(
                f"{path} is damaged: {problem}; no checkpoint before it is whole: delete {folder}, "
                f"and the same command begins again"
            )
    for path, problem in damaged.items():
        _delete(path)
        note(f"{path} was damaged and is deleted: {problem}")


def _damage(folder: Path) -> str | None:
    """What of a complete checkpoint is not as it was written; None if nothing."""
    try:
        written = orjson.loads((folder / _MARKER).read_bytes())
        if _WEIGHTS_FILE not in written:
            raise TypeError
        for name, checksum in written.items():
            if _checksum(folder / name) != checksum:
                return f"{name} is not what was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is gone"
    except (orjson.JSONDecodeError, AttributeError, TypeError):
        return f"{_MARKER} is not what was written"
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be read: {error.strerror or error}") from None
    return None


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep(folder: str | os.PathLike[str], count: int) -> None:
    """Delete what was half written, and all but the newest ``count`` checkpoints."""
    newest = {path for _, path in complete_checkpoints(folder)[-count:]} if count else set()
    for _, path in _all(folder):
        if path not in newest:
            _delete(path)


def _delete(path: str) -> None:
    (Path(path) / _MARKER).unlink(missing_ok=True)
    shutil.rmtree(path)


def _all(folder: str | os.PathLike[str]) -> list[tuple[int, str]]:
    if not Path(folder).is_dir():
        return []
    matches = ((_NAME.fullmatch(path.name), path) for path in Path(folder).iterdir())
    return [(int(match[1]), str(path)) for match, path in matches if match]


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
        with _NewFolder(folder.path / "adapter") as path:
            for config in model.peft_config.values():
                config.base_model_name_or_path = published_name(recipe.model.start or "")
            # "auto" would look at the base, by that name, for embeddings that are not trained here.
            model.save_pretrained(path, save_embedding_layers=False)
            (path / "README.md").unlink(missing_ok=True)  # peft's, with nothing filled in
        model = model.merge_and_unload()
    if recipe.optimisation.precision == "bfloat16":
        model = model.to(torch.bfloat16)
    with _NewFolder(folder.model) as path:
        model.config.dtype = model.dtype
        model.save_pretrained(path)
        assembled.processor.save_pretrained(path)
        if recipe.report:
            (path / "README.md").write_text(model_card(recipe, facts, summary), encoding="utf-8")
    if recipe.report:
        page = render(recipe, facts, summary, folder.logged())
        folder.write("report.html", page.encode("utf-8", "replace"))


class _NewFolder:
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
