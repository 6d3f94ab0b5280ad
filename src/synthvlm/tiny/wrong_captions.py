"""Captions that are wrong: by one attribute, or in the ways of the web.

Of the first kind a scorer must tell the right caption. The web's noise is of the kinds that the
SynthVLM paper names (section 1: "mis-captioned", advertisements, overlapping and broken texts); how
often each occurs is the caller's choice.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Final, Literal

from synthvlm.tiny.captions import RELATIONS, Claim, holds, phrase, sample_claim
from synthvlm.tiny.world import BACKGROUNDS, COLOURS, PLACES, SHAPES, Scene

__all__ = ["EDITS", "NOISES", "Noise", "advertisement", "edits", "noisy_caption"]

EDITS: Final = (
    "colour",
    "shape",
    "size",
    "place",
    "relation",
    "swapped colours",
    "swapped shapes",
    "count",
    "background",
)


def edits(claim: Claim, rng: Random) -> dict[str, Claim]:
    """The claim with one attribute changed, for each attribute that it has.

    An attribute that the claim leaves open is not added.
    """
    out: dict[str, Claim] = {}
    i = rng.randrange(len(claim.shapes))
    shape = rng.choice([s for s in SHAPES if s not in claim.shapes])
    colour = rng.choice([c for c in COLOURS if c not in claim.colours])
    out["shape"] = replace(claim, shapes=(*claim.shapes[:i], shape, *claim.shapes[i + 1 :]))
    out["colour"] = replace(claim, colours=(*claim.colours[:i], colour, *claim.colours[i + 1 :]))
    if claim.size is not None:
        out["size"] = replace(claim, size="large" if claim.size == "small" else "small")
    if claim.place is not None:
        out["place"] = replace(claim, place=rng.choice([p for p in PLACES if p != claim.place]))
    if claim.relation is not None:
        other = rng.choice([r for r in RELATIONS if r != claim.relation])
        out["relation"] = replace(claim, relation=other)
    if len(claim.shapes) == 2:
        out["swapped colours"] = replace(claim, colours=claim.colours[::-1])
        out["swapped shapes"] = replace(claim, shapes=claim.shapes[::-1])
    if claim.kind == "count":
        out["count"] = replace(claim, count=5 - claim.count)
    if claim.background is not None:
        tint = rng.choice([b for b in BACKGROUNDS if b != claim.background])
        out["background"] = replace(claim, background=tint)
    return out


Noise = Literal["wrong", "missing", "unrelated", "advertisement", "mixed"]

#: An attribute is wrong; a thing is left out; another picture's caption; an advertisement; a
#: right caption with an advertisement behind it.
NOISES: Final[tuple[Noise, ...]] = ("wrong", "missing", "unrelated", "advertisement", "mixed")

_OFFERS: Final = (
    "buy now",
    "50 % off today only",
    "free shipping",
    "best price",
    "click here to order",
    "new in our shop",
    "sale ends soon",
    "download for free",
    "20 off all posters",
    "gift cards from 5",
)
_GOODS: Final = ("poster", "sticker", "shirt", "mug", "wallpaper", "clip art", "print", "toy")


def advertisement(rng: Random) -> str:
    """A line that sells something and says nothing of a picture."""
    offers = rng.sample(_OFFERS, rng.choice((2, 3)))
    line = f"{rng.choice(tuple(COLOURS))} {rng.choice(SHAPES)} {rng.choice(_GOODS)}"
    parts = [line, *offers]
    rng.shuffle(parts)
    return rng.choice((" - ", " | ", "! ", ", ")).join(parts) + rng.choice(("", "!", "!!!"))


def noisy_caption(claim: Claim, scene: Scene, noise: Noise, rng: Random) -> str:
    """A caption of a scene with one kind of noise.

    Args:
        claim: A true claim of the scene.
        scene: The scene.
        noise: One of `NOISES`. "missing" of a claim about one thing is "wrong" instead.
        rng: Source of randomness.
    """
    if noise == "advertisement":
        return advertisement(rng)
    if noise == "mixed":
        return f"{phrase(claim, rng)} {advertisement(rng)}"
    if noise == "missing" and claim.kind in ("pair", "relation"):
        index = rng.randrange(2)
        left = Claim("one", (claim.shapes[index],), (claim.colours[index],), 1)
        return phrase(replace(left, background=claim.background), rng)
    while True:
        other = sample_claim(rng) if noise == "unrelated" else _changed(claim, rng)
        if not holds(other, scene):
            return phrase(other, rng)


def _changed(claim: Claim, rng: Random) -> Claim:
    """The claim with one attribute drawn anew; it may still be true."""
    which = rng.choice(("shape", "colour", "place", "background", "count"))
    position = rng.randrange(len(claim.shapes))
    if which == "shape":
        shapes = list(claim.shapes)
        shapes[position] = rng.choice([s for s in SHAPES if s not in shapes])
        return replace(claim, shapes=tuple(shapes))
    if which == "place" and claim.place is not None:
        return replace(claim, place=rng.choice(PLACES))
    if which == "background" and claim.background is not None:
        return replace(claim, background=rng.choice(tuple(BACKGROUNDS)))
    if which == "count" and claim.kind == "count":
        return replace(claim, count=5 - claim.count)
    colours = list(claim.colours)
    colours[position] = rng.choice([c for c in COLOURS if c not in colours])
    return replace(claim, colours=tuple(colours))
