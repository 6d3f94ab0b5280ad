"""What a generator is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.components.component import Component
from synthvlm.errors import PluginError

if TYPE_CHECKING:
    import torch

__all__ = ["GeneratedImages", "Generator", "check_images"]


@dataclass(frozen=True, slots=True)
class GeneratedImages:
    """Images of a batch.

    Attributes:
        pixels: uint8, shape (n, 3, height, width), RGB, on any device.
        problems: For each image, why it cannot be used, or None.
        truncated: For each image, whether a text encoder saw only the beginning of its prompt;
            empty where the generator cannot know.
        unsafe: For each image, why a check of the generator's own rejected it (its pixels may then
            be black), or None; empty where there is no such check.
    """

    pixels: torch.Tensor
    problems: tuple[str | None, ...]
    truncated: tuple[bool, ...] = ()
    unsafe: tuple[str | None, ...] = ()


class Generator(Component):
    """Makes images from prompts.

    Attributes:
        reproducible: Whether a prompt and a seed determine the image.
    """

    reproducible: bool = True

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        """Make one image for each (prompt, seed); a prompt is encoded once for all its images.

        Raises:
            OutOfMemoryError: The batch is too large for the device.
            GenerationError: The batch failed; a part of it may not.
        """
        raise NotImplementedError


def check_images(name: str, images: GeneratedImages, count: int) -> None:
    """Hold a generator to its contract.

    Raises:
        PluginError: It did not return an image for each prompt; the message names it.
    """
    pixels = getattr(images, "pixels", None)
    shape, dtype = tuple(getattr(pixels, "shape", ())), str(getattr(pixels, "dtype", "no array"))
    if len(shape) != 4 or shape[:2] != (count, 3) or dtype != "torch.uint8":
        kind = f"{dtype}, shape {shape}"
        raise PluginError(
            f"generator {name!r}: its pixels are {kind}, not uint8, shape ({count}, 3, height, "
            f"width)"
        )
    lengths = {len(images.truncated), len(images.unsafe)}
    if len(images.problems) != count or not lengths <= {0, count}:
        raise PluginError(
            f"generator {name!r}: it returned a wrong number of problems or flags, not {count}"
        )
