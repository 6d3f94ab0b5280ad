"""Pictures as data URIs, small enough for a page that holds a hundred of them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

__all__ = ["Picture", "picture"]

#: Longest side of an embedded image in pixels; larger ones are scaled down.
MAX_SIDE = 384
#: Images up to this side are shown with hard pixels: smoothing would invent detail.
_PIXEL_SIDE = 128
_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


@dataclass(frozen=True, slots=True)
class Picture:
    """An image for the page; width and height are those of the original."""

    src: str
    width: int
    height: int

    @property
    def pixelated(self) -> bool:
        """Whether it is so small that it should be shown with hard pixels."""
        return max(self.width, self.height) <= _PIXEL_SIDE


def picture(data: bytes) -> Picture | None:
    """The image as a data URI; None where the bytes are no image."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=list(_TYPES)) as image:
            width, height = image.size
            kind = image.format or ""
            if max(width, height) > MAX_SIDE:
                small = image.convert("RGB")
                small.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
                sink = io.BytesIO()
                small.save(sink, "WEBP", quality=80)
                data, kind = sink.getvalue(), "WEBP"
            else:
                image.load()
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    text = base64.b64encode(data).decode("ascii")
    return Picture(f"data:{_TYPES[kind]};base64,{text}", width, height)
