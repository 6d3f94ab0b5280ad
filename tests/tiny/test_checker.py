"""The checker passes true pictures and refuses changed and malformed ones."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from synthvlm.tiny.captions import KINDS, RELATIONS, Claim, Kind, holds, sample_claim, sample_scene
from synthvlm.tiny.checker import check, see
from synthvlm.tiny.world import BACKGROUNDS, COLOURS, PLACES, SHAPES, Scene, Shape, Thing, render

SAMPLES = 50


def _samples(kind: Kind, looseness: float) -> tuple[list[Claim], list[Scene]]:
    rng = Random(KINDS.index(kind) + 11)
    claims = [sample_claim(rng, kind) for _ in range(SAMPLES)]
    return claims, [sample_scene(claim, rng, looseness) for claim in claims]


@pytest.mark.parametrize("kind", KINDS)
def test_passes_true_pictures_and_refuses_changed_claims(kind: Kind) -> None:
    claims, scenes = _samples(kind, 2.5)
    passed, wrongly, changed = 0, 0, 0
    rng = Random(5)
    for claim, image in zip(claims, render(scenes), strict=True):
        sighting = see(image)
        assert sighting.scene is not None
        passed += sighting.fault is None and holds(claim, sighting.scene)
        for other in _changes(claim, rng):
            changed += 1
            wrongly += sighting.fault is None and holds(other, sighting.scene)
    assert passed >= 0.98 * SAMPLES
    assert wrongly <= 0.03 * changed


def _changes(claim: Claim, rng: Random) -> list[Claim]:
    shape = rng.choice([s for s in SHAPES if s not in claim.shapes])
    colour = rng.choice([c for c in COLOURS if c not in claim.colours])
    out = [
        replace(claim, shapes=(shape, *claim.shapes[1:])),
        replace(claim, colours=(colour, *claim.colours[1:])),
        replace(claim, count=claim.count + 1),
    ]
    if claim.size is not None:
        out.append(replace(claim, size="small" if claim.size == "large" else "large"))
    if claim.place is not None:
        out.append(replace(claim, place=rng.choice([p for p in PLACES if p != claim.place])))
    if claim.background is not None:
        tints = [b for b in BACKGROUNDS if b != claim.background]
        out.append(replace(claim, background=rng.choice(tints)))
    if claim.relation is not None:
        others = [r for r in RELATIONS if r != claim.relation]
        out.append(replace(claim, relation=rng.choice(others)))
        out.append(replace(claim, colours=claim.colours[::-1]))
    return out


def test_refuses_shapes_that_are_none() -> None:
    rng = Random(7)
    scenes, claims = [], []
    for _ in range(150):
        claim = sample_claim(rng, "one")
        thing = sample_scene(claim, rng).things[0]
        others: list[Shape] = [s for s in SHAPES if s != thing.shape]
        blob = replace(thing, blend=rng.choice(others), mix=rng.uniform(0.4, 0.6))
        if rng.random() < 0.3:
            blob = replace(thing, wobble=0.12 * thing.radius)
        scenes.append(Scene((blob,), "white"))
        claims.append(Claim("one", (thing.shape,), (thing.colour,), 1))
    passed = sum(check(i, c) for i, c in zip(render(scenes), claims, strict=True))
    assert passed <= 0.03 * len(scenes)


def test_refuses_second_colours() -> None:
    rng = Random(8)
    stained, blotched, claims = [], [], []
    for _ in range(60):
        claim = replace(sample_claim(rng, "one"), background=None)
        scene = sample_scene(claim, rng)
        thing = scene.things[0]
        colour = rng.choice([c for c in COLOURS if c != thing.colour])
        tint = rng.choice([b for b in BACKGROUNDS if b != scene.background])
        stained.append(replace(scene, things=(replace(thing, stain=colour),)))
        blotched.append(replace(scene, stain=tint))
        claims.append(claim)
    for scenes in (stained, blotched):
        assert not any(holds(c, s) for c, s in zip(claims, scenes, strict=True))
        passed = sum(check(i, c) for i, c in zip(render(scenes), claims, strict=True))
        assert passed <= 0.1 * len(scenes)


def test_says_what_is_wrong() -> None:
    star = Thing("star", "red", 32, 32, 12)
    image = render([Scene((star,), "mint")])[0]
    assert see(image).fault is None
    assert see(np.full((64, 64, 3), 120, np.uint8)).fault == "background"
    spotted = image.copy()
    spotted[4:7, 4:8] = 0
    assert see(spotted).fault == "debris"
    purple = image.copy()
    purple[(image == (255, 0, 0)).all(axis=2)] = (160, 0, 200)
    assert see(purple).fault == "colour"


def test_empty_picture_matches_nothing() -> None:
    image = render([Scene((), "white")])[0]
    assert not check(image, Claim("one", ("star",), ("red",), 1))


def test_without_looks_only_the_content_counts() -> None:
    star = Thing("star", "red", 18, 32, 11)
    circle = Thing("circle", "blue", 46, 32, 11)
    claim = Claim("relation", ("star", "circle"), ("red", "blue"), 2, relation="left")
    spoilt = [
        Scene((star, replace(circle, wobble=1.2)), "mint"),
        Scene((replace(star, stain="yellow"), circle), "mint"),
        Scene((star, circle), "mint", stain="pink"),
        Scene((star, circle, Thing("circle", "black", 32, 56, 3)), "mint"),
    ]
    others = [
        replace(claim, shapes=("cross", "circle")),
        replace(claim, colours=("red", "teal")),
        replace(claim, relation="right"),
        replace(claim, background="cream"),
        Claim("one", ("star",), ("red",), 1),
    ]
    for image in render(spoilt):
        assert not check(image, claim)
        assert check(image, claim, looks=False)
        assert not any(check(image, other, looks=False) for other in others)
