"""What a generator is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

__all__ = ["GeneratedImages", "Generator"]


@dataclass(frozen=True, slots=True)
class GeneratedImages:
    """Images of a batch.

    Attributes:
        pixels: uint8, shape (n, 3, height, width), RGB, on any device.
        problems: For each image, why it cannot be used, or None.
        truncated: For each image, whether a text encoder saw only the beginning of its prompt;
            empty where the generator cannot know.
    """

    pixels: torch.Tensor
    problems: tuple[str | None, ...]
    truncated: tuple[bool, ...] = ()


class Generator(Protocol):
    """Draws images from prompts.

    Attributes:
        reproducible: Whether a prompt and a seed determine the image.
    """

    reproducible: bool

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        """Draw one image for each (prompt, seed); a prompt is encoded once for all its images.

        Raises:
            OutOfMemoryError: The batch is too large for the device.
            GenerationError: The batch failed; a part of it may not.
        """
        ...
