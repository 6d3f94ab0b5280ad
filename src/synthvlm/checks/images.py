"""Whether stored images decode completely."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from synthvlm.errors import first_line

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["decoders", "image_problem", "pair_problems", "thumbnail_problems"]

_FORMATS = ("png", "jpeg", "webp")
#: An image with more pixels counts as a decompression bomb (the limit of Pillow).
_MAX_PIXELS = 89_478_485


def pair_problems(rows: pa.Table, workers: ThreadPoolExecutor) -> Iterator[str]:
    """What is wrong with the images of some pairs."""
    names = [
        f"the image of {id!r}, candidate {index}"
        for id, index in zip(rows["caption_id"].to_pylist(), rows["index"].to_pylist(), strict=True)
    ]
    columns = (rows[name].to_pylist() for name in ("image", "format", "width", "height"))
    with _without_warnings():
        for name, problem in zip(names, workers.map(image_problem, *columns), strict=True):
            if problem is not None:
                yield f"{name} {problem}"


def thumbnail_problems(rows: pa.Table) -> Iterator[str]:
    """What is wrong with some thumbnails."""
    with _without_warnings():
        for row in rows.to_pylist():
            problem = image_problem(row["thumbnail"], "webp", None, None)
            if problem is not None:
                yield f"the thumbnail of {row['caption_id']!r}, candidate {row['index']} {problem}"


def image_problem(
    data: bytes | None, format: str | None, width: int | None, height: int | None
) -> str | None:
    """Why encoded bytes are not an image of a format and size; None if they are.

    Args:
        data: The bytes; None counts as missing.
        format: ``png``, ``jpeg`` or ``webp``.
        width: In pixels; None if any size is right.
        height: In pixels.
    """
    from PIL import Image, UnidentifiedImageError

    if data is None or format not in _FORMATS:
        return f"is missing, or has the format {format!r}"
    try:
        # Only this format is tried: for some others, such as EPS, Pillow starts other programs.
        with Image.open(io.BytesIO(data), formats=[format.upper()]) as image:
            if width is not None and image.size != (width, height):
                return f"is {image.size[0]} x {image.size[1]}, but {width} x {height} in its row"
            if image.size[0] * image.size[1] > _MAX_PIXELS:
                return f"has {image.size[0]} x {image.size[1]} pixels, too many to decode"
            image.load()
    except UnidentifiedImageError:  # its message holds a memory address
        return f"is not a {format} image"
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error ...
        return f"does not decode: {first_line(error)}"
    return None


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress warnings of Pillow about damaged metadata and large images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def decoders() -> ThreadPoolExecutor:
    """Threads for decoding images."""
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1), "decoding")
