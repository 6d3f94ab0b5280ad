"""Turns pickled weights, of a model folder (`.bin`) or in one file (`.pt`), into safetensors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synthvlm.errors import ModelError, first_line
from synthvlm.models.model_files import loaded_files
from synthvlm.models.pretrained import read_safetensors
from synthvlm.models.unpickling import __file__ as _SCRIPT

__all__ = ["convert_weights", "read_converted"]

#: Names of weights without their endings, of transformers, diffusers and open_clip, and the new
#: ones.
_STEMS = {
    "pytorch_model": "model",
    "diffusion_pytorch_model": "diffusion_pytorch_model",
    "open_clip_pytorch_model": "open_clip_model",
}
_SAFETENSORS = ".safetensors"
_INDEX = ".bin.index.json"


def convert_weights(source: str, target: str, note: Callable[[str], object] = print) -> None:
    """Write a copy of a model folder with its weights as safetensors, or of one file of weights.

    Pickles are read by torch with ``weights_only``, each in a process without rights; see
    ``unpickling.give_up_rights``. Configurations and tokenizers are copied, code is not.

    Args:
        source: Folder with ``pytorch_model.bin``, or its index and parts; or a file.
        target: A new folder; or of a file, a new file that ends in ``.safetensors``.
        note: Gets a line for each file that is written.

    Raises:
        ModelError: The folder has no such weights, a file is refused or damaged, or the target is
            not empty or cannot be written.
    """
    folder, out = Path(source), Path(target)
    if folder.is_file():
        _convert_file(folder, out)
        note(out.name)
        return
    if not folder.is_dir():
        raise ModelError(
            f"{source} is no file or folder: `hf download {source} --local-dir FOLDER` fetches a "
            f"model of the hub"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{target} is there already: name a new folder")
    stem, weight_map = _weights(folder)
    partial = out.with_name(f"{out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _convert_all(folder, partial, stem, weight_map, note)
        for file in loaded_files(folder):
            if not file.name.endswith((_INDEX, ".safetensors", ".safetensors.index.json")):
                copy = partial / file.relative_to(folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
        if out.is_dir():
            out.rmdir()
        os.replace(partial, out)
    except OSError as error:
        raise ModelError(f"{error.filename or target}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_converted(kind: str, model: str, pickle: str, setting: str) -> dict[str, Any]:
    """The weights in the file that a recipe names, where a model is published as a pickle alone.

    Args:
        kind: What the model is called.
        model: What the recipe names.
        pickle: Hub id and file of what is published, with a blank between.
        setting: Where the recipe names it.

    Raises:
        ModelError: It is no file of safetensors (the message says how it is made), or damaged.
    """
    if Path(model).is_file() and model.endswith(_SAFETENSORS):
        return read_safetensors(kind, model)
    name = pickle.rpartition(" ")[2].removesuffix(".pt")
    raise ModelError(
        f"{model} is no file of safetensors: {kind} is published as a pickle, which is not opened: "
        f"`hf download {pickle} --local-dir .`, `synthvlm convert-weights {name}.pt "
        f"{name}{_SAFETENSORS}`, then `--set {setting}={name}{_SAFETENSORS}`"
    )


def _convert_file(source: Path, target: Path) -> None:
    if target.suffix != _SAFETENSORS:
        raise ModelError(f"{target} must end in {_SAFETENSORS}, for {source} is a file")
    if target.exists():
        raise ModelError(f"{target} is there already: name a new file")
    partial = target.with_name(f"{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _convert(source, partial)
        os.replace(partial, target)
    except OSError as error:
        raise ModelError(f"{error.filename or target}: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)


def _weights(folder: Path) -> tuple[str, dict[str, str] | None]:
    """The stem of the weights' names, and which part has which tensor; None: there is one file."""
    if any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} has safetensors already: it can be used as it is")
    for stem in _STEMS:
        index = folder / f"{stem}{_INDEX}"
        if index.is_file():
            try:
                weight_map = json.loads(index.read_bytes())["weight_map"]
                names = set(weight_map.values())
                is_sound = bool(names) and all(_is_name(name) for name in names)
            except (ValueError, KeyError, TypeError, AttributeError):
                is_sound = False
            if not is_sound:
                raise ModelError(f"{index} is no index of weights in this folder")
            return stem, weight_map
        if (folder / f"{stem}.bin").is_file():
            return stem, None
    raise ModelError(
        f"{folder} has no pytorch_model.bin, nor pytorch_model.bin.index.json: nothing to convert"
    )


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name.endswith(".bin") and Path(name).name == name


def _convert_all(
    folder: Path,
    out: Path,
    stem: str,
    weight_map: dict[str, str] | None,
    note: Callable[[str], object],
) -> None:
    def renamed(name: str) -> str:
        return _STEMS[stem] + name.removeprefix(stem).removesuffix(".bin") + ".safetensors"

    if weight_map is None:
        _convert(folder / f"{stem}.bin", out / renamed(f"{stem}.bin"))
        note(renamed(f"{stem}.bin"))
        return
    new_map: dict[str, str] = {}
    for name in sorted(set(weight_map.values())):
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name} is missing, which {stem}{_INDEX} names")
        new = renamed(name) if name.startswith(stem) else f"{name.removesuffix('.bin')}.safetensors"
        new_map |= dict.fromkeys(_convert(folder / name, out / new), new)
        note(new)
    missing = sorted(weight_map.keys() - new_map)
    if missing:
        raise ModelError(f"{folder}: {missing[0]!r} is in no file, which {stem}{_INDEX} names")
    size = sum((out / name).stat().st_size for name in set(new_map.values()))
    index = {"metadata": {"total_size": size}, "weight_map": new_map}
    (out / f"{_STEMS[stem]}.safetensors.index.json").write_text(json.dumps(index, indent=2))


def _convert(source: Path, target: Path) -> list[str]:
    """Convert a file in a process of its own; returns the tensors' names.

    Raises:
        ModelError: It is refused, damaged, or cannot be written.
    """
    with source.open("rb") as read, target.open("wb") as write:
        # Tensors that share memory are written once each.
        max_bytes = 4 * source.stat().st_size + (64 << 20)
        arguments = (read.fileno(), write.fileno(), max_bytes)
        done = subprocess.run(
            [sys.executable, "-I", str(_SCRIPT), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=arguments[:2],
            env={"PATH": os.environ.get("PATH", ""), "OMP_NUM_THREADS": "1"},  # and no secrets
            check=False,
        )
    try:
        result = json.loads(done.stdout.splitlines()[-1])
        problem = result.get("error")
        if problem is None:
            return _checked(target, result["names"])
    except (ValueError, IndexError, KeyError, AttributeError):
        problem = f"its process ended with {done.returncode}, out of memory?"
    raise ModelError(f"{source} is not converted: {first_line(problem)}")


def _checked(target: Path, names: list[str]) -> list[str]:
    """The names, if the file is sound safetensors with them."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(target, framework="np") as file:
            if sorted(file.keys()) != names:
                raise ValueError
    except SafetensorError as error:
        raise ValueError from error
    return names
