"""Original images of captions, decoded with care: they come from strangers."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from synthvlm.errors import first_line

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MAX_PIXELS", "MAX_SIDE_RATIO", "decode_image", "image_size"]

#: More pixels are taken for a decompression bomb (Pillow's own first limit).
MAX_PIXELS = 89_478_485

#: CLIP scales the shorter side to its input size, so a long strip would become a huge image.
MAX_SIDE_RATIO = 100

# Not all that Pillow opens: for EPS, say, it would start Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")


def decode_image(data: bytes) -> Image:
    """The image as RGB: upright, on white where transparent, the first frame of an animation.

    16-bit grey keeps its upper 8 bits (Pillow's own conversion clips at 255).

    Raises:
        ValueError: It is damaged, of no known format, larger than ``MAX_PIXELS``, longer than
            ``MAX_SIDE_RATIO`` times its width (or the other way round), or has 32-bit pixels,
            whose range is not known.
    """
    import warnings

    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata; bombs, which have a limit below
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                _check_size(image.size)
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                return _rgb(image)
    except UnidentifiedImageError as error:  # its own message holds an address in memory
        raise ValueError("the original image cannot be used: it is of no known format") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error ...
        raise ValueError(f"the original image cannot be used: {first_line(error)}") from error


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels as stored; the pixels are not decoded.

    Raises:
        ValueError: It is of no known format, or its header is damaged.
    """
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                return image.size
    except Exception as error:  # as above; the message of an unknown format holds an address
        raise ValueError("the image cannot be used: it is of no known format") from error


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels, the limit is {MAX_PIXELS:,} in all")
    if max(size) > MAX_SIDE_RATIO * min(size):
        raise ValueError(f"{width} x {height}: a side is over {MAX_SIDE_RATIO} times the other")


def _rgb(image: Image) -> Image:
    from PIL import Image as Images

    if image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels (mode {image.mode})")
    if image.mode.startswith("I;16"):
        return Images.fromarray((np.array(image) >> 8).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    front = image.convert("RGBA")
    back = Images.new("RGBA", image.size, "white")
    return Images.alpha_composite(back, front).convert("RGB")
