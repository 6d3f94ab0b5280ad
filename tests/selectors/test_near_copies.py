"""Near copies of reference images: parts of them, flipped, resized and compressed."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from synthvlm.selectors import near_copies
from synthvlm.selectors.near_copies import References, small_image


def picture(seed: int, side: int = 96) -> Image.Image:
    """Soft blotches of colour, in several sizes."""
    rng = np.random.default_rng(seed)
    layers = np.zeros((side, side, 3))
    for cells in (3, 6, 12, 24):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        layers += np.asarray(noise.resize((side, side), Image.Resampling.BICUBIC))
    return Image.fromarray((layers / 4).astype(np.uint8))


def copy(image: Image.Image, box: tuple[int, int, int, int], flip: bool) -> Image.Image:
    part = image.crop(box).resize((80, 72), Image.Resampling.BICUBIC)
    part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else part
    sink = io.BytesIO()
    part.save(sink, "JPEG", quality=40)
    return Image.open(sink).convert("RGB")


ORIGINALS = [picture(seed) for seed in range(40)]


@pytest.fixture(scope="module")
def references() -> References:
    return References(map(small_image, ORIGINALS))


@pytest.mark.parametrize("flip", [False, True])
def test_a_part_of_a_reference_is_found_whatever_was_done_to_it(
    references: References, flip: bool
) -> None:
    for number, (left, top, width, height) in enumerate(
        [(0, 0, 96, 96), (0, 0, 83, 83), (13, 13, 83, 83), (5, 9, 80, 87), (12, 3, 84, 82)]
    ):
        box = (left, top, left + width, top + height)
        found = references.nearest(small_image(copy(ORIGINALS[number], box, flip)))
        assert found is not None
        assert (found.reference, found.flipped) == (number, flip)
        assert found.similarity > 0.9
        assert found.share == pytest.approx(width * height / 96**2, abs=0.02)


def test_other_pictures_and_plain_ones_are_no_copies(references: References) -> None:
    for seed in range(100, 130):
        found = references.nearest(small_image(picture(seed)))
        assert found is None or found.similarity < 0.8
    plain = small_image(Image.new("RGB", (64, 64), "red"))
    for known in (references, References([plain])):
        found = known.nearest(plain)
        assert found is None or found.similarity < 0.1, "nothing in it to know it by"
    assert References([]).nearest(plain) is None


def test_of_equal_references_the_first_is_named() -> None:
    twice = References(map(small_image, [ORIGINALS[3], ORIGINALS[1], ORIGINALS[1]]))
    found = twice.nearest(small_image(ORIGINALS[1]))
    assert found is not None
    assert (found.reference, found.share, found.flipped) == (1, 1.0, False)
    assert found.similarity > 0.98


def test_of_many_references_lists_find_the_same(
    references: References, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_copies, "_ALL", 100)
    monkeypatch.setattr(near_copies, "_LIST", 20)
    listed = References(map(small_image, ORIGINALS))
    for number in range(0, 40, 4):
        image = small_image(copy(ORIGINALS[number], (6, 4, 90, 86), number % 8 == 0))
        assert listed.nearest(image) == references.nearest(image)
