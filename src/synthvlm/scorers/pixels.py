"""A batch of images (uint8, shape (n, 3, height, width), RGB) as libraries and models take it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image

__all__ = ["arrays", "model_inputs", "pictures"]


def arrays(images: torch.Tensor) -> list[np.ndarray]:
    """Each image as numpy has it: uint8, shape (height, width, 3)."""
    return list(images.permute(0, 2, 3, 1).cpu().numpy())


def pictures(images: torch.Tensor) -> list[Image]:
    """Each image as PIL has it."""
    from PIL import Image

    return [Image.fromarray(image) for image in arrays(images)]


def model_inputs(processor: Callable[..., Any], images: torch.Tensor, device: Any) -> Any:
    """What an image processor, such as those of ``transformers``, makes of a batch, on a device."""
    # Said, for an image of 1, 3 or 4 rows could be one with its channels first.
    options = {"return_tensors": "pt", "input_data_format": "channels_last"}
    return processor(images=arrays(images), **options).to(device)
