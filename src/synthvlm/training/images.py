"""Images of conversations: files of strangers, decoded with care."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from synthvlm.captions.decoding import decode_image

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MISSING", "UNREADABLE", "image_problem", "open_image"]

MISSING = "its image file is missing"
UNREADABLE = "its image file cannot be decoded"
_MAX_BYTES = 256 << 20


def open_image(path: str) -> Image:
    """The image as RGB; see ``decode_image`` for what is refused.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no image, or none that is decoded here.
    """
    with open(path, "rb", opener=_open_file) as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"it has more than {_MAX_BYTES >> 20} MiB")
    return decode_image(data)


def _open_file(path: str, flags: int) -> int:
    """Open what is a file: a pipe among the images would be waited for without end."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("it is no file")
    return descriptor


def image_problem(path: str) -> str | None:
    """What is wrong with an image file, as one of few fixed texts; it is decoded to find out."""
    try:
        open_image(path)
    except FileNotFoundError:
        return MISSING
    except (OSError, ValueError):
        return UNREADABLE
    return None
