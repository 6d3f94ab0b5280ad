"""The pictures of the fake endpoint: patches of colour, by a hash of the prompt and the seed."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import time
from dataclasses import dataclass
from typing import Any

__all__ = ["Draw", "Link", "image_answer", "is_image_request", "make_image"]

_PATCHES = 4


@dataclass(frozen=True, slots=True)
class Draw:
    """A picture, after ``delay_s`` seconds; of another size (width, height) than asked if set."""

    size: tuple[int, int] | None = None
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a picture that is not there, in place of a picture."""

    url: str = "http://127.0.0.1:1/picture.png"


def is_image_request(body: Any) -> bool:
    """Whether a body is a request for one image with a size such as ``64x32``."""
    return (
        isinstance(body["prompt"], str)
        and body.get("n", 1) == 1
        and re.fullmatch(r"[1-9]\d*x[1-9]\d*", body["size"]) is not None
    )


def image_answer(answer: Draw | Link, body: dict[str, Any], number: int) -> dict[str, Any]:
    """The body of an answer. Without a seed the picture depends on the request's number."""
    if isinstance(answer, Link):
        return {"created": int(time.time()), "data": [{"url": answer.url}]}
    width, height = answer.size or (int(side) for side in body["size"].split("x"))
    seed = body.get("seed", f"request {number}")
    picture = base64.b64encode(make_image(body["prompt"], seed, width, height)).decode()
    return {"created": int(time.time()), "data": [{"b64_json": picture}]}


def make_image(prompt: str, seed: int | str, width: int, height: int) -> bytes:
    """A PNG of 4 x 4 patches of colour, which the prompt and the seed determine."""
    from PIL import Image

    key = repr((prompt, seed)).encode("utf-8", "backslashreplace")
    colours = hashlib.blake2b(key, digest_size=3 * _PATCHES**2).digest()
    picture = Image.frombytes("RGB", (_PATCHES, _PATCHES), colours)
    file = io.BytesIO()
    picture.resize((width, height), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()
