"""Pictures that a server sent, decoded with care."""

from __future__ import annotations

import io
import warnings

import numpy as np

from synthvlm.errors import first_line

__all__ = ["decode_picture"]

# Not all that Pillow opens: for EPS, say, it would start Ghostscript.
_FORMATS = ("PNG", "JPEG", "WEBP")
_MODES = ("RGB", "RGBA", "L", "LA", "P")


def decode_picture(data: bytes, width: int, height: int) -> np.ndarray:
    """The pixels (uint8, shape (height, width, 3), RGB) of a picture; on white where transparent.

    The size is compared before anything is decoded, so no picture needs more memory than one of
    that size.

    Raises:
        ValueError: It is damaged, no PNG, JPEG or WebP, of another size, or has no 8-bit pixels.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata; a huge size, which is none asked
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                if image.size != (width, height):
                    came = f"{image.size[0]} x {image.size[1]}"
                    raise ValueError(f"it is {came} pixels, asked was {width} x {height}")
                if image.mode not in _MODES:
                    raise ValueError(f"its pixels are of mode {image.mode}, not 8-bit colour")
                if not image.has_transparency_data:
                    return np.array(image.convert("RGB"))
                front = image.convert("RGBA")
                back = Image.new("RGBA", image.size, "white")
                return np.array(Image.alpha_composite(back, front).convert("RGB"))
    except UnidentifiedImageError as error:  # its own message holds an address in memory
        raise ValueError("the picture cannot be used: it is no PNG, JPEG or WebP") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error ...
        raise ValueError(f"the picture cannot be used: {first_line(error)}") from error
