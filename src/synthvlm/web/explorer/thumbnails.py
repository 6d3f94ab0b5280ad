"""Small images for pages, made as they are asked for and kept in memory up to a limit."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from synthvlm.errors import SynthVLMError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Thumbnails", "media_type", "thumbnail"]

SIDE = 192
#: Bytes up to which a small image is sent as it is.
_SMALL = 64 * 2**10
_BYTES = 64 * 2**20
_QUALITY = 80
#: Formats that browsers show, and those whose images are sent as they are where they are small.
_SHOWN = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF")
_SMALL_FORMATS = _SHOWN[:4]


def thumbnail(data: bytes) -> tuple[bytes, str]:
    """A small image, its longest side at most 192 pixels, and its media type.

    Raises:
        SynthVLMError: The bytes are not an image that can be shown.
    """
    from PIL.Image import Resampling

    from synthvlm.captions.readers.images import decode_image

    try:
        small = _quickly(data)
        if isinstance(small, str):
            return data, small
        if small is None:
            small = decode_image(data)
    except ValueError as error:
        raise SynthVLMError(str(error).replace("original ", "")) from None
    small.thumbnail((SIDE, SIDE), Resampling.BILINEAR, reducing_gap=2.0)
    sink = io.BytesIO()
    small.save(sink, "JPEG", quality=_QUALITY)
    return sink.getvalue(), "image/jpeg"


def _quickly(data: bytes) -> Image | str | None:
    """An image decoded no further than a thumbnail needs; its type, if it can be sent as it is.

    None where all of it has to be decoded, or it cannot be.
    """
    from PIL import Image as images

    # Decoders raise errors of many kinds; whoever decodes all of it will say what is wrong.
    with suppress(Exception), images.open(io.BytesIO(data), formats=_SMALL_FORMATS) as image:
        kind = image.get_format_mimetype()
        if max(image.size) <= SIDE and len(data) <= _SMALL:
            image.load()
            return kind
        if kind == "image/jpeg" and not image.getexif():
            image.draft("RGB", (SIDE, SIDE))
            return image.convert("RGB")
    return None


def media_type(data: bytes) -> str:
    """The media type of an encoded image.

    Raises:
        SynthVLMError: Browsers do not show its format.
    """
    from PIL import Image as images

    # Opening reads no more than the header; readers of broken headers raise errors of many kinds.
    with suppress(Exception), images.open(io.BytesIO(data), formats=_SHOWN) as image:
        kind = image.get_format_mimetype()
        if kind is not None:
            return kind
    raise SynthVLMError("the image is of a format that browsers do not show")


class Thumbnails:
    """Thumbnails by row; those used last are kept, up to 64 MiB."""

    def __init__(self, image: Callable[[int], bytes]) -> None:
        """Take what reads the image of a row."""
        self._image = image
        self._kept: OrderedDict[int, tuple[bytes, str]] = OrderedDict()
        self._size, self._lock = 0, threading.Lock()

    def of(self, row: int) -> tuple[bytes, str]:
        """The thumbnail of a row, and its media type.

        Raises:
            SynthVLMError: The image cannot be read, or is none.
        """
        with self._lock:
            if row in self._kept:
                self._kept.move_to_end(row)
                return self._kept[row]
        small = thumbnail(self._image(row))
        with self._lock:
            if row not in self._kept:
                self._kept[row] = small
                self._size += len(small[0])
            while self._size > _BYTES and len(self._kept) > 1:
                _, (data, _) = self._kept.popitem(last=False)
                self._size -= len(data)
        return small
