"""Pictures of servers: of every kind that they send, and of every kind that they should not."""

from __future__ import annotations

import io
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthvlm.generators.endpoint import decode_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 16, 3), np.uint8)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


PNG = encoded(Image.fromarray(PIXELS))


def test_pixels_come_back() -> None:
    np.testing.assert_array_equal(decode_picture(PNG, 16, 8), PIXELS)
    webp = encoded(Image.fromarray(PIXELS), "WEBP", lossless=True)
    np.testing.assert_array_equal(decode_picture(webp, 16, 8), PIXELS)


def test_jpeg_and_grey_are_rgb() -> None:
    grey = Image.new("L", (16, 8), 77)
    assert (decode_picture(encoded(grey), 16, 8) == 77).all()
    jpeg = decode_picture(encoded(grey, "JPEG", quality=100), 16, 8)
    assert jpeg.shape == (8, 16, 3)
    assert (abs(jpeg.astype(int) - 77) <= 1).all()


def test_transparent_is_white() -> None:
    picture = Image.new("RGBA", (16, 8), (255, 0, 0, 0))
    assert (decode_picture(encoded(picture), 16, 8) == 255).all()


def test_another_size_is_told_and_not_resized() -> None:
    with pytest.raises(
        ValueError, match=r"^the picture cannot be used: it is 16 x 8 pixels, asked"
    ):
        decode_picture(PNG, 8, 16)


def chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize("side", [12_000, 100_000])
def test_a_decompression_bomb_costs_nothing(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(10**7))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows * 30)
    start = time.process_time()
    with pytest.raises(ValueError, match=r"^the picture cannot be used: .*\d+ "):
        decode_picture(bomb, 16, 8)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no PNG, JPEG or WebP"),
        (b"<html>no</html>", "no PNG, JPEG or WebP"),
        (encoded(Image.fromarray(PIXELS), "GIF"), "no PNG, JPEG or WebP"),
        (encoded(Image.fromarray(PIXELS), "EPS"), "no PNG, JPEG or WebP"),
        (PNG[: len(PNG) // 2], "truncated"),
        (encoded(Image.new("I;16", (16, 8), 40_000)), "mode I;16"),
        (encoded(Image.new("CMYK", (16, 8)), "JPEG"), "mode CMYK"),
    ],
)
def test_what_cannot_be_used(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=r"^the picture cannot be used: ") as caught:
        decode_picture(data, 16, 8)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.integers(0, len(PNG) - 1), st.integers(0, 255))
def test_a_damaged_picture_is_pixels_or_one_error(place: int, value: int) -> None:
    data = PNG[:place] + bytes([value]) + PNG[place + 1 :]
    try:
        pixels = decode_picture(data, 16, 8)
    except ValueError:
        return
    assert (pixels.dtype, pixels.shape) == (np.uint8, (8, 16, 3))
