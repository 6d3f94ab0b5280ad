"""What a generator is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

__all__ = ["GeneratedImages", "Generator", "Screen", "ScreeningGenerator"]


@dataclass(frozen=True, slots=True)
class Screen:
    """Looks at images part-way through their denoising, and drops some.

    Attributes:
        share: Share (0 .. 1) of the steps after which it looks.
        keep: For previews of n images (uint8, shape (n, 3, height, width), RGB), in the order of
            the prompts, whether each is to be finished.
    """

    share: float
    keep: Callable[[torch.Tensor], Sequence[bool]]


@dataclass(frozen=True, slots=True)
class GeneratedImages:
    """Images of a batch.

    Attributes:
        pixels: uint8, shape (n, 3, height, width), RGB, on any device.
        problems: For each image, why it cannot be used, or None.
        truncated: For each image, whether a text encoder saw only the beginning of its prompt;
            empty where the generator cannot know.
        finished: For each image, whether the screen let it be finished; empty for all. The pixels
            of one that it dropped mean nothing.
    """

    pixels: torch.Tensor
    problems: tuple[str | None, ...]
    truncated: tuple[bool, ...] = ()
    finished: tuple[bool, ...] = ()


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


class ScreeningGenerator(Generator, Protocol):
    """A generator that can drop images part-way."""

    def generate_screened(
        self, prompts: Sequence[str], seeds: Sequence[int], screen: Screen
    ) -> GeneratedImages:
        """As ``generate``, but only the images that the screen keeps are finished."""
        ...
