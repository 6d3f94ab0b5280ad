"""Models of ``transformers``, loaded so that none of their code is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synthvlm.errors import ModelError, first_line, is_out_of_memory
from synthvlm.models.model_files import check_model_name

__all__ = [
    "PilImageProcessor",
    "architectures",
    "cannot_load",
    "check_unicode",
    "load_pretrained",
    "load_processors",
    "load_weights",
    "model_config",
    "model_file",
    "read_safetensors",
]


def load_pretrained(
    classes: Sequence[Any],
    kind: str,
    model: str,
    device: str,
    dtype: str,
    revision: str | None,
) -> list[Any]:
    """Load a model of ``transformers`` and what goes with it; no code of the model's is run.

    Args:
        classes: The model's class, then those of its tokenizer or processors.
        kind: What the model is, for messages.
        model: A hub id or folder.
        device: A torch device.
        dtype: ``float32``, ``float16`` or ``bfloat16``.
        revision: Branch, tag or commit on the hub.

    Raises:
        ModelError: It cannot be found, is damaged, has no safetensors, or lacks weights of its
            class (``transformers`` alone would make random ones).
    """
    import torch

    _check_folder(kind, model)
    options = {"revision": revision, "trust_remote_code": False}
    with _loading(kind, model, device):
        loaded, info = classes[0].from_pretrained(
            model,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # an error below, with its name
            **options,
        )
        _check_complete(info)
        others = _processors(classes[1:], model, options)
        return [loaded.to(device).eval(), *others]


def load_processors(
    classes: Sequence[Any], kind: str, model: str, revision: str | None = None
) -> list[Any]:
    """Load tokenizers and processors alone.

    Args:
        classes: Their classes.
        kind: What they are for, in messages.
        model: A hub id or folder that holds them.
        revision: Branch, tag or commit on the hub.

    Raises:
        ModelError: They cannot be found, or are damaged.
    """
    check_model_name(model)
    with _loading(kind, model, "cpu"):
        return _processors(classes, model, {"revision": revision, "trust_remote_code": False})


def _processors(classes: Sequence[Any], model: str, options: Mapping[str, Any]) -> list[Any]:
    loaded = [one.from_pretrained(model, **options) for one in classes]
    for one in loaded:
        # Without its files, transformers makes a tokenizer of special tokens alone.
        if hasattr(one, "all_special_ids") and len(one) <= len(set(one.all_special_ids)):
            raise ModelError("it has no tokenizer")
    return loaded


def load_weights(
    model_class: Any,
    config: Any,
    weights: Mapping[str, Any],
    kind: str,
    model: str,
    device: str,
) -> Any:
    """A model of ``transformers``, in float32, of weights that were published in another form.

    Args:
        model_class: The model's class.
        config: Its configuration.
        weights: Tensors by the names that the class has for them: all of them, and no others.
        kind: What the model is, for messages.
        model: What is loaded, for messages.
        device: A torch device.

    Raises:
        ModelError: Weights are missing, of another shape, or left over.
    """
    import torch

    with _loading(kind, model, device):
        loaded, info = model_class.from_pretrained(
            None,
            config=config,
            state_dict=dict(weights),
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # an error below, with its name
        )
        _check_complete(info)
        if info["unexpected_keys"]:
            raise ModelError(f"its weights {min(info['unexpected_keys'])} have no place in it")
        return loaded.to(device).eval()


@contextmanager
def _loading(kind: str, model: str, device: str) -> Iterator[None]:
    """Loading in silence; any error becomes one of ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what it would warn of, missing weights, is an error here
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise ModelError(
                f"the {kind} model {model} does not fit into the memory of {device}: "
                f"{first_line(error)}"
            ) from error
        raise cannot_load(kind, model, error) from error
    finally:
        logging.set_verbosity(verbosity)


def _check_complete(info: Mapping[str, Any]) -> None:
    if info["missing_keys"]:
        raise ModelError(f"it has no weights {min(info['missing_keys'])}")
    for name, actual, expected in sorted(info["mismatched_keys"]):
        raise ModelError(f"its weights {name} are of shape {[*actual]}, not {[*expected]}")


def model_file(kind: str, model: str, name: str, revision: str | None = None) -> Path:
    """A file of a model's folder, or of the hub; it is downloaded if need be.

    Args:
        kind: What the model is, for messages.
        model: A hub id or folder.
        name: The file's name there.
        revision: Branch, tag or commit on the hub.

    Raises:
        ModelError: It cannot be had.
    """
    from transformers.utils import cached_file

    check_model_name(model)
    if Path(model).is_dir() and not Path(model, name).is_file():
        raise ModelError(
            f"{model} holds no {name}: not a {kind} model, or one of .bin files, which "
            f"`synthvlm convert-weights` converts"
        )
    try:
        path = cached_file(model, name, revision=revision)
    except Exception as error:
        raise cannot_load(kind, model, error) from error
    return Path(str(path))


def read_safetensors(kind: str, path: str | Path, only: Sequence[str] = ("",)) -> dict[str, Any]:
    """The tensors of a file of safetensors, by name, on the CPU.

    Args:
        kind: What the model is, for messages.
        path: Of the file.
        only: Beginnings of the names that are read.

    Raises:
        ModelError: It is none, or cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {
                name: file.get_tensor(name)
                for name in list(file.keys())
                if name.startswith(tuple(only))
            }
    except (SafetensorError, OSError) as error:
        raise cannot_load(kind, str(path), error) from error


def architectures(kind: str, model: str, revision: str | None) -> list[str]:
    """Names of the classes that a model's ``config.json`` says it is of; see ``model_config``."""
    return list(model_config(kind, model, revision).get("architectures") or [])


def model_config(kind: str, model: str, revision: str | None) -> dict[str, Any]:
    """A model's ``config.json``; no weights are read.

    Args:
        kind: What the model is, for messages.
        model: A hub id or folder.
        revision: Branch, tag or commit on the hub.

    Raises:
        ModelError: It cannot be found, or is damaged.
    """
    from transformers import PreTrainedConfig

    _check_folder(kind, model)
    try:
        config: dict[str, Any]
        config, _ = PreTrainedConfig.get_config_dict(model, revision=revision)
    except Exception as error:
        raise cannot_load(kind, model, error) from error
    return config


def _check_folder(kind: str, model: str) -> None:
    check_model_name(model)
    if Path(model).is_dir() and not (Path(model) / "config.json").is_file():
        raise ModelError(f"{model} holds no config.json: not a {kind} model")


def cannot_load(kind: str, model: str, error: Exception) -> ModelError:
    """What to raise where a library could not load a model of some kind."""
    return ModelError(
        f"cannot load the {kind} model {model}: {first_line(error)} "
        f"(`synthvlm doctor` checks what is reachable; weights must be safetensors: `synthvlm "
        f"convert-weights` makes them of a folder of .bin files)"
    )


class PilImageProcessor:
    """``AutoImageProcessor`` by PIL: the other backend, where installed, resizes otherwise."""

    @staticmethod
    def from_pretrained(model: str, **options: Any) -> Any:
        """As ``AutoImageProcessor.from_pretrained``."""
        from transformers import AutoImageProcessor

        return AutoImageProcessor.from_pretrained(model, backend="pil", **options)


def check_unicode(text: str) -> None:
    """Do nothing if a text can be written as UTF-8; tokenizers take no other.

    Raises:
        ValueError: It cannot: it holds a lone surrogate.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"the text is no valid Unicode: {error.reason}") from error
