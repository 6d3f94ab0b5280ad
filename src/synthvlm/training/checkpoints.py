"""Checkpoints: the trained weights and where the training is; complete, or as good as not there.

The frozen weights are in none: they come from where the first start took them.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from synthvlm.errors import RunFolderError, first_line
from synthvlm.training.model import trained_weights

__all__ = ["complete_checkpoints", "load_trained", "mark_complete", "save_trained", "sweep", "sync"]

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
    found = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    save_file(found, os.path.join(folder, _WEIGHTS_FILE), metadata={"format": "pt"})


def load_trained(model: Any, folder: str) -> None:
    """Put a checkpoint's weights into the model.

    ``Trainer`` would not: its own way of resuming leaves a LLaVA's weights as they are, without an
    error.

    Raises:
        RunFolderError: They are damaged, or of another model.
    """
    import torch
    from safetensors.torch import load_file

    path = os.path.join(folder, _WEIGHTS_FILE)
    try:
        found = load_file(path)
    except Exception as error:
        raise RunFolderError(f"{path} is damaged: {first_line(error)}; delete {folder}") from None
    weights = trained_weights(model)
    if {n: w.shape for n, w in weights.items()} != {n: w.shape for n, w in found.items()}:
        raise RunFolderError(f"{path} is of another model: take another --out")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(found[name])


def mark_complete(folder: str) -> None:
    """Say that all of a checkpoint is on disk; the last thing that is written."""
    for path in Path(folder).iterdir():
        sync(path)
    marker = Path(folder) / _MARKER
    marker.touch()
    sync(marker)
    sync(Path(folder))


def complete_checkpoints(folder: str | os.PathLike[str]) -> list[tuple[int, str]]:
    """Step and folder of each complete checkpoint, the newest last."""
    return sorted((step, path) for step, path in _all(folder) if (Path(path) / _MARKER).is_file())


def sweep(folder: str | os.PathLike[str], kept: int) -> None:
    """Delete what was half written, and all but the newest ``kept`` checkpoints."""
    staying = {path for _, path in complete_checkpoints(folder)[-kept:]} if kept else set()
    for _, path in _all(folder):
        if path not in staying:
            (Path(path) / _MARKER).unlink(missing_ok=True)
            shutil.rmtree(path)


def _all(folder: str | os.PathLike[str]) -> list[tuple[int, str]]:
    if not Path(folder).is_dir():
        return []
    found = ((_NAME.fullmatch(path.name), path) for path in Path(folder).iterdir())
    return [(int(match[1]), str(path)) for match, path in found if match]


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
