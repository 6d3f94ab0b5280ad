"""Images of conversations: files of strangers, decoded with care."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthvlm.captions.decoding import decode_image
from synthvlm.captions.readers.images import ImageProblem, read_image

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MISSING", "UNREADABLE", "image_problem", "open_image"]

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
