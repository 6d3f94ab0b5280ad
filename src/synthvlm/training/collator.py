"""Rows as the model's input: ids, labels, attention mask, pixels.

Images are opened here: files of strangers, decoded with care.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from synthvlm.captions.readers.images import ImageProblem, decode_image, read_image
from synthvlm.errors import CaptionSourceError, first_line
from synthvlm.training.tokens import IGNORED, expand

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

__all__ = ["MISSING", "UNREADABLE", "Collator", "image_problem", "open_image"]

MISSING = "its image file is missing"
UNREADABLE = "its image file cannot be decoded"


def open_image(path: str) -> Image:
    """The image as RGB; see ``decode_image`` for what is refused.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no image, or none that is decoded here.
    """
    try:
        return decode_image(read_image(path))
    except ImageProblem as error:
        raise ValueError(str(error)) from error


def image_problem(path: str) -> str | None:
    """What is wrong with an image file, as one of few fixed texts; it is decoded to find out."""
    try:
        open_image(path)
    except FileNotFoundError:
        return MISSING
    except (OSError, ValueError):
        return UNREADABLE
    return None


class Collator:
    """Pads rows of ``samples.arrow`` on the right, and opens their images."""

    def __init__(self, processor: Any, image_id: int, image_features: int) -> None:
        """Take the processor of images and words, and what stands for an image."""
        self._images = processor.image_processor
        self._pad_id: int = processor.tokenizer.pad_token_id
        self._image_id, self._image_features = image_id, image_features

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """A batch of n rows, of which m have an image.

        Returns:
            ``input_ids``, ``labels`` and ``attention_mask`` (int64, shape (n, longest)) and, where
            m > 0, ``pixel_values`` (float32, shape (m, 3, side, side)), in the rows' order.

        Raises:
            CaptionSourceError: An image that could be opened before is gone or damaged.
        """
        import numpy as np
        import torch

        parts = [
            expand(
                np.asarray(row["input_ids"], np.int32),
                np.asarray(row["trained"], np.bool_),
                self._image_id,
                self._image_features,
            )
            for row in rows
        ]
        longest = max(len(ids) for ids, _ in parts)
        input_ids = np.full((len(rows), longest), self._pad_id, np.int64)
        labels = np.full((len(rows), longest), IGNORED, np.int64)
        mask = np.zeros((len(rows), longest), np.int64)
        for n, (ids, targets) in enumerate(parts):
            input_ids[n, : len(ids)] = ids
            labels[n, : len(ids)] = targets
            mask[n, : len(ids)] = 1
        batch = {
            "input_ids": torch.from_numpy(input_ids),
            "labels": torch.from_numpy(labels),
            "attention_mask": torch.from_numpy(mask),
        }
        files = [row["image_file"] for row in rows if row["image_file"] is not None]
        if files:
            batch["pixel_values"] = self._pixels(files)
        return batch

    def _pixels(self, files: Sequence[str]) -> torch.Tensor:
        images = []
        for file in files:
            try:
                images.append(open_image(file))
            except (OSError, ValueError) as error:
                problem = getattr(error, "strerror", None) or first_line(error)
                raise CaptionSourceError(
                    f"{file} could be read before training and now cannot: {problem}; put it back, "
                    f"and the same command goes on"
                ) from None
        pixels: torch.Tensor = self._images(images, return_tensors="pt")["pixel_values"]
        return pixels
