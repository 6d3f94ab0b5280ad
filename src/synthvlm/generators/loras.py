"""LoRAs: small changes of a model's weights, added to them once."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthvlm.errors import MissingExtraError, ModelError, first_line
from synthvlm.generators.failures import quiet

__all__ = ["Lora", "fuse_loras"]


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA of a diffusion model.

    Attributes:
        model: Hub id, folder, or .safetensors file.
        weight_name: File in the hub's repository or the folder; None where there is only one.
        revision: On the hub.
        scale: How much of it is added; 1 is all.
    """

    model: str
    weight_name: str | None = None
    revision: str | None = None
    scale: float = 1.0


def fuse_loras(pipeline: Any, loras: Sequence[Lora]) -> None:
    """Add LoRAs to a pipeline's weights, so that they cost nothing per step.

    Raises:
        MissingExtraError: ``peft`` is not installed.
        ModelError: A LoRA cannot be found, or does not fit the pipeline.
    """
    if not loras:
        return
    if importlib.util.find_spec("peft") is None:
        raise MissingExtraError("generation.loras needs peft: pip install 'synthvlm[lora]'")
    kind = type(pipeline).__name__
    if not hasattr(pipeline, "load_lora_weights"):
        raise ModelError(f"generation.loras: a {kind} takes no LoRA: remove them")
    names = [f"lora_{number}" for number in range(len(loras))]
    for name, lora in zip(names, loras, strict=True):
        _load(pipeline, lora, name)
    try:
        with quiet():
            pipeline.set_adapters(names, [lora.scale for lora in loras])
            pipeline.fuse_lora(adapter_names=names)
            pipeline.unload_lora_weights()
    except Exception as error:
        raise ModelError(
            f"cannot add the LoRAs to the {kind}: {first_line(error)}: are they for this model?"
        ) from error


def _load(pipeline: Any, lora: Lora, name: str) -> None:
    model, weight_name = lora.model, lora.weight_name
    if Path(model).is_file():
        model, weight_name = str(Path(model).parent), Path(model).name
    # diffusers unpickles what is named and has another ending, whatever use_safetensors says.
    if weight_name is not None and not weight_name.endswith(".safetensors"):
        raise ModelError(
            f"cannot load the LoRA {lora.model}: weights must be safetensors, not {weight_name}"
        )
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is more than one
            pipeline.load_lora_weights(
                model,
                weight_name=weight_name,
                revision=lora.revision,
                adapter_name=name,
                use_safetensors=True,
            )
            fits = any(name in adapters for adapters in pipeline.get_list_adapters().values())
    except Exception as error:
        raise ModelError(f"cannot load the LoRA {lora.model}: {first_line(error)}") from error
    if not fits:
        raise ModelError(
            f"the LoRA {lora.model} changes nothing in a {type(pipeline).__name__}: it is for "
            "another model"
        )
