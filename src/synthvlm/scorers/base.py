"""What a scorer is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["Scorer", "Scores"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a batch of n pairs.

    Attributes:
        values: float64, shape (n,); higher is better.
        image_embeddings: float32, shape (n, d), unit length, from scorers that embed.
        text_embeddings: The same for the captions.
        truncated: For each caption, whether the scorer saw only its beginning.
    """

    values: np.ndarray
    image_embeddings: np.ndarray | None = None
    text_embeddings: np.ndarray | None = None
    truncated: tuple[bool, ...] | None = None


class Scorer(Protocol):
    """Scores pairs of image and caption, higher is better."""

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        """Score n images (uint8, shape (n, 3, height, width), RGB) against n captions."""
        ...
