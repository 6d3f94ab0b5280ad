"""Winners: whether images decode completely, and embeddings are what the scorer gives."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from synthvlm.errors import first_line

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["decoders", "image_problem", "pair_problems", "thumbnail_problems"]

_FORMATS = ("png", "jpeg", "webp")
#: More pixels are taken for a decompression bomb (Pillow's own limit).
_MAX_PIXELS = 89_478_485
#: Half precision keeps 11 bits.
_UNIT = 0.01


def pair_problems(rows: pa.Table, workers: ThreadPoolExecutor) -> Iterator[str]:
    """What is wrong with some rows of a file of pairs, each by itself."""
    names = [
        f"the image of {id!r}, candidate {index}"
        for id, index in zip(rows["caption_id"].to_pylist(), rows["index"].to_pylist(), strict=True)
    ]
    columns = (rows[name].to_pylist() for name in ("image", "format", "width", "height"))
    with _unwarned():
        for name, problem in zip(names, workers.map(image_problem, *columns), strict=True):
            if problem is not None:
                yield f"{name} {problem}"
    for column in ("image_embedding", "text_embedding"):
        for name, problem in zip(names, _embedding_problems(rows[column]), strict=True):
            if problem is not None:
                yield f"{column} beside {name} {problem}"


def thumbnail_problems(rows: pa.Table) -> Iterator[str]:
    """What is wrong with some rows of a file of thumbnails."""
    with _unwarned():
        for row in rows.to_pylist():
            problem = image_problem(row["thumbnail"], "webp", None, None)
            if problem is not None:
                yield f"the thumbnail of {row['caption_id']!r}, candidate {row['index']} {problem}"


def image_problem(
    data: bytes | None, format: str | None, width: int | None, height: int | None
) -> str | None:
    """Why an encoded image is not one of that format and size (None: any size).

    Returns:
        None: it decodes completely.
    """
    from PIL import Image, UnidentifiedImageError

    if data is None or format not in _FORMATS:
        return f"is missing, or has the format {format!r}"
    try:
        # Only what it says it is: for EPS, say, Pillow would start Ghostscript.
        with Image.open(io.BytesIO(data), formats=[format.upper()]) as image:
            if width is not None and image.size != (width, height):
                return f"is {image.size[0]} x {image.size[1]}, its row says {width} x {height}"
            if image.size[0] * image.size[1] > _MAX_PIXELS:
                return f"has {image.size[0]} x {image.size[1]} pixels: too many to be decoded"
            image.load()
    except UnidentifiedImageError:  # its own message holds an address in memory
        return f"is no {format}"
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error ...
        return f"does not decode: {first_line(error)}"
    return None


@contextmanager
def _unwarned() -> Iterator[None]:
    """Without what Pillow says of damaged metadata, and of bombs, which have a limit here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def decoders() -> ThreadPoolExecutor:
    """Threads to decode images with."""
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1), "decoding")


def _embedding_problems(column: Any) -> Iterator[str | None]:
    """What is wrong with each; a column without any is one of a run whose scorers do not embed."""
    lengths = {0 if value.values is None else len(value) for value in column}
    if column.null_count == len(column):
        yield from [None] * len(column)
        return
    for value in column:
        vector = np.zeros(0) if value.values is None else value.values.to_numpy().astype(float)
        norm = float(np.linalg.norm(vector)) if len(vector) else 0.0
        if not np.isfinite(vector).all():
            yield "is not finite"
        elif abs(norm - 1) > _UNIT:
            yield f"has length {norm:.3f}, not 1"
        elif len(lengths) > 1:
            yield f"has {len(vector)} numbers, others have others"
        else:
            yield None
