"""Pixels to bytes and back."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from synthvlm.data import Pair

if TYPE_CHECKING:
    import numpy as np

    from synthvlm.recipe.generation import ImageSettings
    from synthvlm.stages.generation.requests import ScoredImage

__all__ = ["decode", "encode", "encoding_fact", "encoding_of", "pair_of", "thumbnail"]

#: Longest side of a thumbnail in pixels.
_THUMBNAIL_SIDE = 192


def encode(pixels: np.ndarray, settings: ImageSettings) -> bytes:
    """Encode an image (uint8, shape (height, width, 3)) as the recipe asks."""
    from PIL import Image

    options = {} if settings.format == "png" else {"quality": settings.quality or 95}
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, settings.format, **options)
    return sink.getvalue()


def pair_of(image: ScoredImage, settings: ImageSettings) -> Pair:
    """A winner, encoded as the recipe asks; it must have pixels."""
    assert image.pixels is not None
    height, width = image.pixels.shape[:2]
    return Pair(
        caption_id=image.request.id,
        index=image.request.index,
        image=encode(image.pixels, settings),
        format=settings.format,
        width=width,
        height=height,
        image_embedding=_half(image.image_embedding),
        text_embedding=_half(image.text_embedding),
    )


def _half(embedding: np.ndarray | None) -> np.ndarray | None:
    import numpy as np

    return None if embedding is None else embedding.astype(np.float16)


def encoding_fact(settings: ImageSettings) -> str:
    """How winners are encoded, as the done-marker of their shard holds it, e.g. ``jpeg-60``."""
    return f"{settings.format}-{settings.quality}"


def encoding_of(fact: object) -> ImageSettings | None:
    """The settings of a fact that ``encoding_fact`` returned; None for any other value."""
    from synthvlm.recipe.generation import ImageSettings

    format, _, quality = str(fact).partition("-")
    try:
        settings = ImageSettings.model_validate(
            {"format": format, "quality": None if quality == "None" else int(quality)}
        )
    except ValueError:
        return None
    return settings if encoding_fact(settings) == fact else None


def decode(image: bytes) -> np.ndarray:
    """The pixels (uint8, shape (height, width, 3)) of an encoded image."""
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))


def thumbnail(pixels: np.ndarray) -> bytes:
    """A small WebP of an image (uint8, shape (height, width, 3))."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    sink = io.BytesIO()
    image.save(sink, "webp", quality=80)
    return sink.getvalue()
