"""Marks in image files, read again by Pillow and by an XML parser; pixels stay as they are."""

from __future__ import annotations

import io
import struct
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from synthvlm.provenance.marks import SOURCE_TYPE, ImageDetails, marked

DETAILS = ImageDetails(model="org/model@main", seed=2**63 - 1, run="0123abcd")
FORMATS = ("png", "jpeg", "webp")
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"


def encoded(format: str, mode: str = "RGB", **options: object) -> bytes:
    shape = (5, 7) if mode == "L" else (5, 7, len(mode))
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels, mode).save(sink, format, **options)
    return sink.getvalue()


def properties(image: bytes) -> dict[str, str | None]:
    """All properties of an image's one XMP packet, by their qualified names."""
    assert image.count(b"<x:xmpmeta") == 1
    packet = ElementTree.fromstring(Image.open(io.BytesIO(image)).info["xmp"])
    (description,) = packet.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    return {one.tag: one.text for one in description}


IMAGES = {
    f"{format} {mode} {'with a profile' if profile else ''} {options}": (
        format,
        encoded(format, mode, **({"icc_profile": profile} if profile else {}), **options),
        profile,
    )
    for format in FORMATS
    for mode in ("RGB", "L", "RGBA")
    for profile in (None, PROFILE)
    for options in ([{"lossless": True}, {"quality": 60}] if format == "webp" else [{}])
    if (format, mode) != ("jpeg", "RGBA")
}


@pytest.mark.parametrize("name", IMAGES)
def test_pixels_mode_and_profile_stay(name: str) -> None:
    format, image, profile = IMAGES[name]
    result = marked(image, format, DETAILS)
    before, after = (Image.open(io.BytesIO(data)) for data in (image, result))
    assert np.array_equal(np.asarray(before), np.asarray(after))
    assert (after.format, after.mode, after.size) == (before.format, before.mode, before.size)
    assert after.info.get("icc_profile") == before.info.get("icc_profile") == profile
    assert properties(result) == {
        f"{IPTC}DigitalSourceType": SOURCE_TYPE,
        f"{IPTC}AISystemUsed": "org/model@main",
        "{http://ns.adobe.com/xap/1.0/}CreatorTool": "synthvlm",
        "{urn:synthvlm:}seed": "9223372036854775807",
        "{urn:synthvlm:}runFingerprint": "0123abcd",
    }


@pytest.mark.parametrize("format", FORMATS)
def test_without_details_the_mark_stays(format: str) -> None:
    result = marked(encoded(format), format)
    assert properties(result) == {f"{IPTC}DigitalSourceType": SOURCE_TYPE}
    assert b"synthvlm" not in result


def test_png_has_the_details_as_text_too() -> None:
    info = Image.open(io.BytesIO(marked(encoded("png"), "png", DETAILS))).info
    expected = {
        "Software": "synthvlm",
        "Model": "org/model@main",
        "Seed": str(2**63 - 1),
        "Run fingerprint": "0123abcd",
    }
    assert {name: info[name] for name in expected} == expected


@pytest.mark.parametrize("format", FORMATS)
@given(model=st.text(max_size=40))
def test_any_name_of_a_model_can_be_read_again(format: str, model: str) -> None:
    name = f"<x:xmpmeta>]]>&\"'{model}\0\u202e\ud800"
    result = marked(encoded(format), format, ImageDetails(name, 1, None))
    read = ElementTree.fromstring(Image.open(io.BytesIO(result)).info["xmp"])
    (text,) = (one.text for one in read.iter(f"{IPTC}AISystemUsed"))
    assert text is not None
    assert text.startswith("<x:xmpmeta>]]>&\"'")
    assert "\0" not in text
    if model.isascii() and model.isalnum():
        assert text == f"<x:xmpmeta>]]>&\"'{model}\ufffd\u202e\ufffd"


@pytest.mark.parametrize("format", FORMATS)
def test_it_is_the_same_each_time_and_replaces_an_earlier_mark(format: str) -> None:
    image = encoded(format)
    once = marked(image, format, DETAILS)
    assert once == marked(image, format, DETAILS)
    assert once == marked(once, format, DETAILS)
    other = ImageDetails("other", 1, None)
    assert marked(once, format, other) == marked(image, format, other)


def test_xmp_that_is_there_is_replaced_and_other_texts_stay() -> None:
    strange = "<x:xmpmeta><strange/></x:xmpmeta>"
    texts = PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", strange, zip=True)
    texts.add_text("Seed", "7")
    texts.add_text("Author", "someone", zip=True)
    png = encoded("png", pnginfo=texts)
    for format, image in [
        ("png", png),
        ("jpeg", encoded("jpeg", xmp=strange.encode(), exif=Image.Exif().tobytes())),
        ("webp", encoded("webp", "RGBA", xmp=strange.encode(), lossless=True)),
    ]:
        result = marked(image, format, DETAILS)
        assert b"strange" not in result
        assert properties(result)[f"{IPTC}DigitalSourceType"] == SOURCE_TYPE
        before, after = (np.asarray(Image.open(io.BytesIO(data))) for data in (image, result))
        assert np.array_equal(before, after)
    info = Image.open(io.BytesIO(marked(png, "png", DETAILS))).info
    assert (info["Author"], info["Seed"]) == ("someone", str(2**63 - 1))
    assert marked(png, "png", DETAILS).count(b"Seed") == 1


def test_the_mark_comes_before_the_pixels_and_after_the_header() -> None:
    png, jpeg = marked(encoded("png"), "png"), marked(encoded("jpeg"), "jpeg")
    assert png[8 + 25 + 4 :].startswith(b"iTXtXML:com.adobe.xmp\0")
    length = int.from_bytes(png[33:37], "big")
    crc = struct.pack(">I", zlib.crc32(png[37 : 41 + length]))
    assert png[41 + length : 45 + length] == crc
    assert jpeg[6:10] == b"JFIF"
    assert jpeg[20:22] == b"\xff\xe1"
    assert jpeg[24:].startswith(b"http://ns.adobe.com/xap/1.0/\0<?xpacket")


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_no_whole_image_is_refused(format: str) -> None:
    image = encoded(format)
    for length in range(0, len(image) - 2, 17):
        if format == "jpeg" and b"\xff\xda" in image[:length]:
            break  # pixels have no length in a JPEG
        with pytest.raises(ValueError, match=r"cut off|no (PNG|JPEG|WebP) file|damaged|one image"):
            marked(image[:length], format)
    with pytest.raises(ValueError, match="no "):
        marked(encoded("png" if format != "png" else "webp"), format)
    with pytest.raises(ValueError, match="'gif' is none of png, jpeg, webp"):
        marked(image, "gif")


def test_a_name_that_is_too_long_for_a_jpeg_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes of XMP are more than a JPEG holds"):
        marked(encoded("jpeg"), "jpeg", ImageDetails("x" * 65_000, 1, None))
    assert marked(encoded("webp"), "webp", ImageDetails("x" * 65_000, 1, None))
