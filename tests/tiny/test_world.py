"""The world draws what a claim says, and captions read back as what was worded."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest

from synthvlm.tiny.captions import (
    KINDS,
    Claim,
    Kind,
    holds,
    is_held_out,
    parse,
    phrase,
    sample_claim,
    sample_scene,
)
from synthvlm.tiny.world import BACKGROUNDS, COLOURS, PLACES, SHAPES, Scene, Thing, place_of, render


@pytest.mark.parametrize("kind", KINDS)
def test_parse_is_the_inverse_of_phrase(kind: Kind) -> None:
    rng = Random(1)
    for _ in range(500):
        claim = sample_claim(rng, kind)
        assert parse(phrase(claim, rng)) == claim


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a dog on a skateboard",
        "a red star a red star",
        "a purple star",
        "two red star",
        "two red stars in a row",
        "a red star on a black background",
    ],
)
def test_parse_refuses_what_the_world_does_not_say(text: str) -> None:
    assert parse(text) is None


def test_parse_golden() -> None:
    assert parse("A small red star at the top left on a sky blue background.") == Claim(
        "one", ("star",), ("red",), 1, size="small", place="top left", background="sky blue"
    )
    assert parse("there is a teal cross under a black circle") == Claim(
        "relation", ("cross", "circle"), ("teal", "black"), 2, relation="below"
    )
    assert parse("Three gray crosses in a row. The background is mint.") == Claim(
        "count", ("cross",), ("gray",), 3, background="mint"
    )


@pytest.mark.parametrize("looseness", [0.0, 1.0, 2.5])
def test_sampled_scenes_bear_their_claims_out(looseness: float) -> None:
    rng = Random(2)
    for _ in range(500):
        claim = sample_claim(rng)
        assert holds(claim, sample_scene(claim, rng, looseness))


def test_holds_is_about_the_whole_picture() -> None:
    star = Thing("star", "red", 17, 32, 11)
    circle = Thing("circle", "blue", 47, 32, 11)
    both = Scene((star, circle), "mint")
    assert not holds(Claim("one", ("star",), ("red",), 1), both)
    left = Claim("relation", ("star", "circle"), ("red", "blue"), 2, relation="left")
    right = Claim("relation", ("circle", "star"), ("blue", "red"), 2, relation="right")
    swapped = Claim("relation", ("circle", "star"), ("red", "blue"), 2, relation="left")
    assert holds(left, both)
    assert holds(right, both)
    assert not holds(swapped, both)
    dented = Scene((Thing("star", "red", 17, 32, 11, wobble=1.0), circle), "mint")
    assert not holds(left, dented)


def test_held_out_claims_are_a_tenth_and_blind_to_the_side_told_from() -> None:
    rng = Random(3)
    claims = [sample_claim(rng) for _ in range(5000)]
    assert 0.07 < sum(map(is_held_out, claims)) / len(claims) < 0.13
    one = Claim("relation", ("star", "circle"), ("red", "blue"), 2, relation="left")
    same = Claim("relation", ("circle", "star"), ("blue", "red"), 2, relation="right")
    assert is_held_out(one) == is_held_out(same)


def test_render_draws_pure_colours_with_soft_edges() -> None:
    scenes = [
        Scene((Thing(shape, colour, 32.0, 32.0, 12.0),), background)
        for shape in SHAPES
        for colour in COLOURS
        for background in BACKGROUNDS
    ]
    images = render(scenes)
    assert images.shape == (len(scenes), 64, 64, 3)
    assert images.dtype == np.uint8
    for scene, image in zip(scenes, images, strict=True):
        assert tuple(image[0, 0]) == BACKGROUNDS[scene.background]
        assert tuple(image[32, 32]) == COLOURS[scene.things[0].colour]
    assert len(Counter(map(tuple, images[0].reshape(-1, 3).tolist()))) > 4


def test_render_of_nothing() -> None:
    assert render([]).shape == (0, 64, 64, 3)
    assert (render([Scene((), "white")]) == 250).all()


def test_every_place_has_a_name() -> None:
    centres = [(x, y) for y in (16, 32, 48) for x in (16, 32, 48)]
    assert tuple(place_of(x, y) for x, y in centres) == PLACES
