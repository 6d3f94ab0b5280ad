"""Image files without captions, for a model to caption: a file is a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from synthvlm.captions.readers.images import MAX_IMAGE_BYTES
from synthvlm.captions.readers.records import Fields, Record
from synthvlm.errors import CaptionSourceError

__all__ = ["read_image_file"]

#: A buffer of the limit's size would be made anew for every image.
_PART = 1 << 20


def read_image_file(file: BinaryIO, fields: Fields) -> Iterator[Record]:
    """The one row of an image file."""
    if fields.image is None:
        raise CaptionSourceError(
            f"{fields.path}: an image has no caption of its own; set image_captioner, which writes "
            f"one"
        )
    yield Record("", image=_read(file) if fields.wants(0) else None)


def _read(file: BinaryIO) -> bytes:
    """The file; one byte too many is what makes it too large."""
    parts, left = [], MAX_IMAGE_BYTES + 1
    while left and (part := file.read(min(left, _PART))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
