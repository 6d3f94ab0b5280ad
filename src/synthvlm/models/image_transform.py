"""Images as vision towers see them whose authors use torchvision: resized, cropped, normalised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ["CLIP_MEAN", "CLIP_STD", "ImageTransform", "normalized"]

#: Mean and standard deviation of the channels of OpenAI's CLIP, of 1.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class ImageTransform:
    """``Resize``, ``CenterCrop``, ``ToTensor`` and ``Normalize`` of torchvision, by PIL.

    It is called as the image processors of ``transformers`` are. Those crop an odd margin one
    pixel elsewhere.
    """

    def __init__(
        self,
        side: int,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
        *,
        interpolation: str = "bicubic",
        squash: bool = False,
    ) -> None:
        """Set what images become.

        Args:
            side: Height and width in pixels.
            mean: What is taken from each channel, of 1.
            std: What each channel is divided by then.
            interpolation: ``bicubic`` or ``bilinear``.
            squash: Whether the whole image is resized to a square, and nothing is cropped.
        """
        self._side, self._mean, self._std = side, mean, std
        self._interpolation, self._squash = interpolation, squash

    def __call__(self, images: Sequence[np.ndarray], **options: object) -> Any:
        """A batch with ``pixel_values`` (float32, shape (n, 3, side, side)).

        Args:
            images: uint8, each of shape (height, width, 3).
            options: Of the processors of ``transformers``; no one of them changes anything.
        """
        import numpy as np
        import torch
        from transformers import BatchFeature

        pixels = torch.from_numpy(np.stack([self._resized(image) for image in images]))
        values = pixels.permute(0, 3, 1, 2).float() / 255
        return BatchFeature({"pixel_values": normalized(values, self._mean, self._std)})

    def _resized(self, pixels: np.ndarray) -> np.ndarray:
        import numpy as np
        from PIL import Image

        resample = Image.Resampling[self._interpolation.upper()]
        image, side = Image.fromarray(pixels), self._side
        if self._squash:
            return np.asarray(image.resize((side, side), resample))
        short = min(image.size)
        width, height = (int(side * length / short) for length in image.size)
        left, top = round((width - side) / 2), round((height - side) / 2)
        resized = image.resize((width, height), resample)
        return np.asarray(resized.crop((left, top, left + side, top + side)))


def normalized(values: Any, mean: Sequence[float], std: Sequence[float]) -> Any:
    """A tensor of images (shape (n, 3, height, width)), each channel shifted and scaled."""
    import torch

    shift, scale = (torch.tensor(one).view(1, 3, 1, 1) for one in (mean, std))
    return (values - shift) / scale
