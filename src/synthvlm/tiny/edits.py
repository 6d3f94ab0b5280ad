"""Captions that are wrong by one attribute: what a scorer must tell from the right one."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Final

from synthvlm.tiny.captions import RELATIONS, Claim
from synthvlm.tiny.world import BACKGROUNDS, COLOURS, PLACES, SHAPES

__all__ = ["EDITS", "edits"]

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
