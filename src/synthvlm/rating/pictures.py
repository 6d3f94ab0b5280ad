"""The two pictures of a pair as raters see them: nothing but their content tells them apart."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from synthvlm.captions.readers.images import decode_image

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["level", "on_canvas"]

#: The longest side that is shown, and the one up to which a lossless picture is small.
_LONGEST, _LOSSLESS = 1024, 256


def level(images: tuple[bytes, bytes]) -> tuple[Image, Image]:
    """Two pictures in RGB, both with the longest side of the smaller one, at most 1024 pixels.

    Raises:
        ValueError: One is damaged.
    """
    from PIL import Image

    first, second = (decode_image(image) for image in images)
    side = min(max(first.size), max(second.size), _LONGEST)

    def reduced(image: Image.Image) -> Image.Image:
        longest = max(image.size)
        if longest == side:
            return image
        width, height = (max(1, round(length * side / longest)) for length in image.size)
        return image.resize((width, height), Image.Resampling.LANCZOS)

    return reduced(first), reduced(second)


def on_canvas(image: Image) -> bytes:
    """A picture in the middle of a transparent square of its longest side, as WebP.

    Sizes and formats of files are then the same, and nothing of the file's metadata is left.
    """
    from PIL import Image

    side = max(image.size)
    canvas = Image.new("RGBA", (side, side))
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    sink = io.BytesIO()
    if side <= _LOSSLESS:
        canvas.save(sink, "WEBP", lossless=True)
    else:
        canvas.save(sink, "WEBP", quality=95, method=2)
    return sink.getvalue()
