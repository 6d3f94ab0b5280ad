"""Noise is noise: no noisy caption is true of its picture and says nothing besides."""

from __future__ import annotations

from random import Random

import pytest

from synthvlm.tiny.captions import holds, parse, phrase, sample_claim, sample_scene
from synthvlm.tiny.wrong_captions import NOISES, Noise, advertisement, noisy_caption


@pytest.mark.parametrize("noise", NOISES)
def test_no_noisy_caption_is_right(noise: Noise) -> None:
    rng = Random(3)
    for _ in range(150):
        claim = sample_claim(rng)
        scene = sample_scene(claim, rng)
        said = parse(noisy_caption(claim, scene, noise, rng))
        if noise in ("advertisement", "mixed"):
            assert said is None
        else:
            assert said is not None
            assert not holds(said, scene)


def test_missing_leaves_one_of_two_things_out() -> None:
    rng = Random(4)
    for _ in range(50):
        claim = sample_claim(rng, "pair")
        said = parse(noisy_caption(claim, sample_scene(claim, rng), "missing", rng))
        assert said is not None
        assert said.kind == "one"
        assert (said.shapes[0], said.colours[0]) in zip(claim.shapes, claim.colours, strict=True)


def test_mixed_holds_the_right_caption() -> None:
    rng = Random(5)
    claim = sample_claim(rng)
    words = phrase(claim, Random(7))
    mixed = noisy_caption(claim, sample_scene(claim, rng), "mixed", Random(7))
    assert mixed.startswith(words + " ")
    assert len(mixed) > len(words) + 10


def test_advertisements_differ() -> None:
    rng = Random(6)
    assert len({advertisement(rng) for _ in range(50)}) > 40
