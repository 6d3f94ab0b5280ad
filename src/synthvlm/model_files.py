"""Where models lie that a name stands for, and what they are."""

from __future__ import annotations

from pathlib import Path

from synthvlm import tiny
from synthvlm.components.settings import TINY, ModelName
from synthvlm.data import digest
from synthvlm.errors import ModelError

__all__ = [
    "clip_path",
    "identify",
    "language_path",
    "located",
    "model_identity",
    "pipeline_path",
    "vision_language_path",
]

#: The folder of the model in the output folder of ``synthvlm train``, and its recipe.
_TRAINED_MODEL, _TRAINING_RECIPE = "model", "training.yaml"
_SAMPLE_BYTES = 2**20


def pipeline_path(model: str) -> str:
    """Hub id or folder of a diffusion pipeline; ``tiny`` is the embedded one."""
    return str(tiny.pipeline_path()) if model == TINY else model


def clip_path(model: str) -> str:
    """Hub id or folder of a CLIP model; ``tiny`` is the embedded one."""
    return str(tiny.clip_path()) if model == TINY else model


def language_path(model: str) -> str:
    """Hub id or folder of a causal language model; ``tiny`` is the embedded one."""
    return str(tiny.language_path()) if model == TINY else model


def vision_language_path(model: str) -> str:
    """Hub id or folder of a vision-language model; what ``synthvlm train`` wrote holds one.

    Raises:
        ModelError: The training is not done.
    """
    folder = Path(model)
    if not folder.is_dir():
        return model
    inner = folder / _TRAINED_MODEL
    if (folder / "config.json").is_file():
        return str(folder)
    if (inner / "config.json").is_file():
        return str(inner)
    if (folder / _TRAINING_RECIPE).is_file():
        raise ModelError(
            f"{model} has no model yet: the same `synthvlm train` command goes on with its training"
        )
    return str(folder)


def located(name: str, mark: ModelName) -> str:
    """Hub id or path of what a setting names; ``tiny`` is the embedded model of that kind."""
    locate = {"pipeline": pipeline_path, "clip": clip_path, "language": language_path}
    return name if mark.kind is None else locate[mark.kind](name)


def identify(name: str, mark: ModelName) -> str:
    """What the model or file is that a setting names, by its content; see ``model_identity``."""
    return model_identity(located(name, mark))


def model_identity(path: str) -> str:
    """What a model is, for fingerprints: a hub id's name, or the content of a folder or file.

    Of a folder the names and sizes of its files count, and the first and last MiB of each, so
    that a moved folder is the same model and a changed one is not.
    """
    folder = Path(path)
    if not folder.exists():
        return path
    files = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else [folder]
    parts: list[bytes] = []
    for file in files:
        size = file.stat().st_size
        if file.suffix not in (".json", ".safetensors", ".txt", ".model"):
            continue
        with file.open("rb") as stream:
            head = stream.read(_SAMPLE_BYTES)
            stream.seek(max(0, size - _SAMPLE_BYTES))
            tail = stream.read(_SAMPLE_BYTES)
        parts.append(f"{file.relative_to(folder)}\0{size}\0".encode())
        parts += [head, tail]
    return digest(parts)
