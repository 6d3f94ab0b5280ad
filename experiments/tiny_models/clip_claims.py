"""What the captions of the CLIP's training claim, the right ones and the wrong ones."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from synthvlm.tiny.captions import (
    INVERSE,
    KINDS,
    RELATIONS,
    Claim,
    holds,
    is_held_out,
    sample_claim,
)
from synthvlm.tiny.world import BACKGROUNDS, PLACES, Scene
from synthvlm.tiny.wrong_captions import edits

__all__ = ["opened", "trainable_claim", "wrong_claims"]

MIX = (0.3, 0.1, 0.2, 0.4)  # shares of the kinds of captions: which is where takes longest

# Of two things, what is hardest to learn.
_HARD = ("swapped colours", "swapped shapes", "relation", "inverse", "relation again")


def trainable_claim(rng: Random) -> Claim:
    """A random claim that is not held out."""
    while is_held_out(claim := sample_claim(rng, rng.choices(KINDS, MIX)[0])):
        pass
    return claim


def opened(claim: Claim, rng: Random) -> Claim:
    """The claim with some of its optional attributes left out, unless that one is held out."""
    less = replace(
        claim,
        size=claim.size if rng.random() < 0.7 else None,
        place=claim.place if rng.random() < 0.7 else None,
        background=claim.background if rng.random() < 0.8 else None,
    )
    return claim if is_held_out(less) else less


def wrong_claims(claim: Claim, scene: Scene, rng: Random, count: int) -> list[Claim]:
    """Claims near this one that the scene does not bear out; of two things a hard one first."""
    near = _near_claims(claim, rng)
    wrong = [c for c in near.values() if not is_held_out(c) and not holds(c, scene)]
    rng.shuffle(wrong)
    if len(claim.shapes) == 2:
        first = near[rng.choice([name for name in _HARD if name in near])]
        wrong.sort(key=lambda c: c is not first)
    while len(wrong) < count:
        other = sample_claim(rng)
        if not is_held_out(other) and not holds(other, scene):
            wrong.append(other)
    return wrong[:count]


def _near_claims(claim: Claim, rng: Random) -> dict[str, Claim]:
    """The claim with one attribute changed or added; some of them may be true as well."""
    near = edits(claim, rng)
    if claim.relation is not None:  # the swaps and the relation are the hardest to learn
        near["relation again"] = edits(claim, rng)["relation"]
        near["inverse"] = replace(claim, relation=INVERSE[claim.relation])
    elif claim.kind == "one":
        near["count"] = replace(
            claim, kind="count", count=rng.choice((2, 3)), size=None, place=None
        )
        near["size"] = replace(claim, size=rng.choice(("small", "large")))
        near["place"] = replace(claim, place=rng.choice(PLACES))
        near["place again"] = replace(claim, place=rng.choice(PLACES))
    elif claim.kind == "count":
        near["single"] = _one_of(claim, 0)
    else:
        near["relation"] = replace(claim, kind="relation", relation=rng.choice(RELATIONS))
    if len(claim.shapes) == 2 and rng.random() < 0.3:
        near["single"] = _one_of(claim, rng.randrange(2))
    # An attribute left open may be filled in wrongly.
    if claim.background is None:
        near["background"] = replace(claim, background=rng.choice(tuple(BACKGROUNDS)))
    return near


def _one_of(claim: Claim, i: int) -> Claim:
    return Claim("one", (claim.shapes[i],), (claim.colours[i],), 1, background=claim.background)
