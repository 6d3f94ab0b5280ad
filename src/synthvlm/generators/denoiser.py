"""The part of a pipeline that works at every step: smaller, or faster."""

from __future__ import annotations

import importlib.util
import warnings
from typing import TYPE_CHECKING, Any

from synthvlm.errors import MissingExtraError, ModelError, first_line
from synthvlm.generators.failures import quiet

if TYPE_CHECKING:
    import torch

__all__ = ["compile_denoiser", "denoiser", "lay_out_channels_last", "quantize_denoiser"]

#: Ways to hold weights smaller, by the name of torchao's configuration. They are brought back to
#: the pipeline's dtype at each use.
_QUANTIZATIONS = {"int8": "Int8WeightOnlyConfig", "float8": "Float8WeightOnlyConfig"}


def denoiser(pipeline: Any) -> torch.nn.Module:
    """The UNet or transformer of a pipeline.

    Raises:
        ModelError: It has neither.
    """
    for name in ("transformer", "unet"):
        module: torch.nn.Module | None = getattr(pipeline, name, None)
        if module is not None:
            return module
    raise ModelError(f"a {type(pipeline).__name__} has no single UNet or transformer to change")


def quantize_denoiser(pipeline: Any, kind: str, device: str) -> None:
    """Hold the weights of the denoiser's linear layers in 8 bits.

    Args:
        pipeline: A pipeline in the host's memory.
        kind: ``int8`` or ``float8``.
        device: Where the work is done, layer by layer.

    Raises:
        MissingExtraError: ``torchao`` is not installed.
        ModelError: Nothing of it can be quantized.
    """
    if importlib.util.find_spec("torchao") is None:
        raise MissingExtraError(
            "generation.quantization needs torchao: pip install 'synthvlm[quantization]'"
        )
    module = denoiser(pipeline)
    before = {name: type(weight) for name, weight in module.named_parameters()}
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torchao import quantization

            config = getattr(quantization, _QUANTIZATIONS[kind])()
            quantization.quantize_(module, config, device=device)
    except Exception as error:
        raise ModelError(f"cannot quantize the denoiser to {kind}: {first_line(error)}") from error
    if all(type(weight) is before[name] for name, weight in module.named_parameters()):
        raise ModelError(f"nothing of the {type(module).__name__} can be quantized to {kind}")


def lay_out_channels_last(pipeline: Any) -> None:
    """Lay the weights of 2-D convolutions out with their channels last, which GPUs prefer."""
    import torch

    for module in (denoiser(pipeline), pipeline.vae):
        for weight in module.parameters():
            if weight.dim() == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def compile_denoiser(pipeline: Any) -> None:
    """Compile the denoiser; the first batch of a new shape then takes minutes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about torch
        denoiser(pipeline).compile()
