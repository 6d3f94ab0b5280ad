"""Models of ``transformers``, loaded so that none of their code is run."""

from __future__ import annotations

from collections.abc import Sequence
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
    "model_config",
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
    from transformers.utils import logging

    _check_folder(kind, model)
    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what it would warn of, missing weights, is an error here
    options = {"revision": revision, "trust_remote_code": False}
    try:
        loaded, info = classes[0].from_pretrained(
            model,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
        if info["missing_keys"]:
            raise ModelError(f"it has no weights {min(info['missing_keys'])}")
        others = [other.from_pretrained(model, **options) for other in classes[1:]]
        return [loaded.to(device).eval(), *others]
    except Exception as error:
        if is_out_of_memory(error):
            raise ModelError(
                f"the {kind} model {model} does not fit into the memory of {device}: "
                f"{first_line(error)}"
            ) from error
        raise cannot_load(kind, model, error) from error
    finally:
        logging.set_verbosity(verbosity)


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
