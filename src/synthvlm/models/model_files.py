"""Where models lie that a name stands for, and what they are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from synthvlm import tiny
from synthvlm.components.settings import TINY, ModelName
from synthvlm.data import digest
from synthvlm.errors import ModelError
from synthvlm.models.file_hashes import file_hash

__all__ = [
    "check_model_name",
    "clip_path",
    "identify",
    "language_path",
    "loaded_files",
    "located",
    "model_identity",
    "not_a_hub_id",
    "pipeline_path",
    "verifier_path",
    "vision_language_path",
]

#: The folder of the model in the output folder of ``synthvlm train``, and its recipe.
_TRAINED_MODEL, _TRAINING_RECIPE = "model", "training.yaml"
#: Endings of files of a model's folder that nothing here loads: pickles and other frameworks'
#: weights (``use_safetensors``), code (``trust_remote_code`` is off), documents and pictures.
_NOT_LOADED = (
    ".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".onnx_data", ".ot", ".pb", ".pickle",
    ".pkl", ".pt", ".pth", ".tflite",
    ".ipynb", ".py", ".pyc", ".sh",
    ".gif", ".html", ".jpeg", ".jpg", ".md", ".pdf", ".png", ".svg", ".webp",
)  # fmt: skip
#: The id of a repository on the hub, and endings of what is a file instead.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", re.ASCII)
_FILES = (".safetensors", ".bin", ".ckpt", ".gguf", ".arpa", ".klm", ".json", ".yaml", ".zip")
_DOCUMENTS = {"changelog", "licence", "license", "notice", "readme"}


def not_a_hub_id(name: str, repository: str = "model") -> str | None:
    """Why a name of nothing on this machine is not taken for an id of the hub; None if it is.

    Args:
        name: A name that may be a path or an id.
        repository: What it names: ``model`` or ``dataset``.
    """
    if os.path.exists(name):
        return None
    if not _HUB_ID.fullmatch(name) or ".." in name or name.lower().endswith(_FILES):
        home = os.path.expanduser(name)
        hint = f": write {home}" if home != name and os.path.exists(home) else ""
        return f"{name}: no such file or folder{hint}"
    first, slash, _ = name.partition("/")
    if not slash or not os.path.isdir(first):
        return None
    from huggingface_hub.constants import HF_HUB_CACHE

    if Path(HF_HUB_CACHE, f"{repository}s--{name.replace('/', '--')}").is_dir():
        return None
    kind = "" if repository == "model" else f" --repo-type {repository}"
    return (
        f"{name}: no such folder, although {first}/ is one here: correct the path; if you mean "
        f"{name} of the hub, download it first: `hf download{kind} {name}`"
    )


def check_model_name(name: str) -> None:
    """Raise ModelError if a name is neither something on this machine nor an id of the hub."""
    problem = not_a_hub_id(name)
    if problem is not None:
        raise ModelError(problem)


def pipeline_path(model: str) -> str:
    """Hub id or folder of a diffusion pipeline; ``tiny`` is the embedded one."""
    return str(tiny.pipeline_path()) if model == TINY else model


def clip_path(model: str) -> str:
    """Hub id or folder of a CLIP model; ``tiny`` is the embedded one."""
    return str(tiny.clip_path()) if model == TINY else model


def language_path(model: str) -> str:
    """Hub id or folder of a causal language model; ``tiny`` is the embedded one."""
    return str(tiny.language_path()) if model == TINY else model


def verifier_path(model: str) -> str:
    """Hub id or folder of a model that looks at images; ``tiny`` is the embedded one.

    Raises:
        ModelError: As ``vision_language_path``.
    """
    return str(tiny.verifier_path()) if model == TINY else vision_language_path(model)


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
            f"{model} has no model yet: the same `synthvlm train` command continues its training"
        )
    return str(folder)


def located(name: str, mark: ModelName) -> str:
    """Hub id or path of what a setting names; ``tiny`` is the embedded model of that kind."""
    locate = {
        "pipeline": pipeline_path,
        "clip": clip_path,
        "language": language_path,
        "verifier": verifier_path,
    }
    return name if mark.kind is None else locate[mark.kind](name)


def identify(name: str, mark: ModelName) -> str:
    """What the model or file is that a setting names, by its content; see ``model_identity``."""
    return model_identity(located(name, mark))


def model_identity(path: str) -> str:
    """What a model is, for fingerprints: a hub id's name, or the content of a folder or file.

    Of a folder all files count that something here may load, by name and SHA-256, so that a moved
    folder is the same model and a changed one is not. Left out are hidden ones, code, documents
    and weights in other formats than safetensors, which are never loaded.

    A hub id's commit is not part of it: it is unknown before the first download, so that a run
    that downloads its model would be another one afterwards. Revisions are settings of their own.

    Raises:
        ModelError: A file cannot be read; or there is no such path, and it is no hub id.
    """
    model = Path(path)
    try:
        if model.is_file():
            return file_hash(model)
        if not model.is_dir():
            check_model_name(path)
            return path
        loaded = {os.fsencode(file.relative_to(model)): file for file in loaded_files(model)}
        parts = [b"%s\0%s\0" % (name, file_hash(loaded[name]).encode()) for name in sorted(loaded)]
        return digest(parts)
    except OSError as error:
        raise ModelError(f"{error.filename or path} cannot be read: {error.strerror}") from error


def loaded_files(folder: Path, above: tuple[tuple[int, int], ...] = ()) -> Iterator[Path]:
    """The files beneath a model's folder that count; see ``model_identity``.

    Links are followed, but not in circles: ``above`` are the folders that this one is in.
    """
    info = folder.stat()
    here = (info.st_dev, info.st_ino)
    if here in above:
        return
    for entry in folder.iterdir():
        name = entry.name.lower()
        if name.startswith("."):
            continue
        if entry.is_dir():
            yield from loaded_files(entry, (*above, here))
        elif entry.is_file() and not (
            name.endswith(_NOT_LOADED) or name.split(".")[0] in _DOCUMENTS
        ):
            yield entry
