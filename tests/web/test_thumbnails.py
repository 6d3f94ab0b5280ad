"""Small images for pages."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from synthvlm import SynthVLMError
from synthvlm.web.explorer.thumbnails import thumbnail


def test_a_thumbnail_is_small() -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        sink = io.BytesIO()
        Image.effect_noise((900, 300), 60).convert("RGB").save(sink, kind)
        data, media = thumbnail(sink.getvalue())
        with Image.open(io.BytesIO(data)) as image:
            assert (media, image.format, image.size) == ("image/jpeg", "JPEG", (192, 64))
    sink = io.BytesIO()
    upright = Image.Exif()
    upright[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (400, 200)).save(sink, "JPEG", exif=upright)
    with Image.open(io.BytesIO(thumbnail(sink.getvalue())[0])) as image:
        assert image.size == (96, 192)
    for damaged in (b"", b"no image", sink.getvalue()[:200]):
        with pytest.raises(SynthVLMError, match="the image cannot be used"):
            thumbnail(damaged)
