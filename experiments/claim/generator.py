"""A generator that errs in content: clean drawings of a claim that is not quite the caption's.

Real diffusion models draw clean pictures with wrong colours, counts, relations, or a thing left
out. How often each happens, by default, are the rates of SDXL on GenEval (Ghosh et al. 2023,
arXiv 2310.11513; the table in the README of their repository): right for .98 of prompts about one
object, .74 two objects, .39 counting, .85 colours, .15 position, .23 colour attribution. The last
two count only where both objects are there, so of pictures with both, 1 - .15 / .74 have a wrong
relation and 1 - .23 / .74 the wrong colours.

It is a plug-in, like any generator of a user: ``synthvlm.register(FaultyRenderer)``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Final, Literal

import torch

from synthvlm.components.settings import Settings
from synthvlm.generators import GeneratedImages, Generator
from synthvlm.tiny.captions import (
    RELATIONS,
    Claim,
    Relation,
    parse,
    sample_claim,
    sample_scene,
)
from synthvlm.tiny.world import COLOURS, PLACES, SHAPES, Scene, Shape, render

__all__ = ["RATES", "Fault", "FaultyRenderer", "faulty"]

Fault = Literal["missing", "binding", "relation", "count", "colour", "shape", "place"]

#: How often a picture has a fault, of those of captions that can have it.
RATES: Final[dict[Fault, float]] = {
    "missing": 1 - 0.74,  # of two things
    "binding": 1 - 0.23 / 0.74,  # of two things that are both there
    "relation": 1 - 0.15 / 0.74,  # of two things that are both there
    "count": 1 - 0.39,
    "colour": 1 - 0.85,  # of one thing, or several alike
    "shape": 1 - 0.98,  # the same
    "place": 1 - 0.85,  # GenEval has no places; as often as colours
}

# What is taken for what by systematic faults: the same in all pictures. Other systematic faults:
# the second thing is missing; two things have swapped colours; two are three, and three two.
# (Relations turned round would cancel swapped colours: what is red would be on its side again.)
_COLOUR_TAKEN_FOR: Final = {
    "red": "brown",
    "brown": "red",
    "green": "teal",
    "teal": "green",
    "blue": "black",
    "black": "blue",
    "gray": "yellow",
    "yellow": "gray",
}
_SHAPE_TAKEN_FOR: Final[dict[Shape, Shape]] = {
    "circle": "star",
    "star": "circle",
    "rectangle": "cross",
    "cross": "triangle",
    "triangle": "rectangle",
}
_RELATION_TAKEN_FOR: Final[dict[Relation, Relation]] = {
    "left": "below",
    "below": "right",
    "right": "above",
    "above": "left",
}
_PLACE_TAKEN_FOR: Final = dict(zip(PLACES, (*PLACES[1:], PLACES[0]), strict=True))


class FaultyRendererSettings(Settings):
    """Settings of `FaultyRenderer`.

    Attributes:
        systematic: Factor of all of `RATES`, for faults that take the same thing for the same in
            all pictures, so that a model trained on them learns them.
        random: The same for faults that may take anything for anything.
    """

    systematic: float = 0.0
    random: float = 0.0


class FaultyRenderer(Generator):
    """Draws what the caption says, or something near it; of other texts, anything."""

    name = "faulty_renderer"
    label = "Drawings with faults in content"
    version = "1"
    Settings = FaultyRendererSettings

    def __init__(self, systematic: float = 0.0, random: float = 0.0) -> None:
        """Take the settings of a recipe, see `FaultyRendererSettings`."""
        self.systematic, self.random = systematic, random

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        """Draw one picture for each (prompt, seed)."""
        scenes = [self.scene(*pair) for pair in zip(prompts, seeds, strict=True)]
        pixels = torch.from_numpy(render(scenes)).permute(0, 3, 1, 2)
        return GeneratedImages(pixels, (None,) * len(scenes))

    def scene(self, prompt: str, seed: int) -> Scene:
        """What is drawn of a prompt."""
        digest = hashlib.sha256(f"{seed} {prompt}".encode()).digest()
        # Places and sizes come from a source of their own: with other faults, or none, the rest of
        # the picture is the same.
        faults, drawing = Random(digest[:8]), Random(digest[8:16])
        claim = parse(prompt) or sample_claim(faults)
        return sample_scene(faulty(claim, faults, self.systematic, self.random), drawing)


def faulty(claim: Claim, rng: Random, systematic: float, random: float) -> Claim:
    """The claim with faults, or without.

    Args:
        claim: What is to be drawn.
        rng: Source of randomness.
        systematic: Factor of `RATES` for systematic faults.
        random: Factor for random ones.
    """

    def happens(fault: Fault) -> Literal["systematic", "random"] | None:
        draw = rng.random()
        if draw < systematic * RATES[fault]:
            return "systematic"
        return "random" if draw < (systematic + random) * RATES[fault] else None

    if claim.kind in ("pair", "relation"):
        if missing := happens("missing"):
            left = 0 if missing == "systematic" else rng.randrange(2)
            alone = Claim("one", (claim.shapes[left],), (claim.colours[left],), 1)
            return replace(alone, background=claim.background)
        if binding := happens("binding"):
            claim = _recoloured(claim, rng, systematic=binding == "systematic")
        if claim.relation is not None and (turned := happens("relation")):
            others = [side for side in RELATIONS if side != claim.relation]
            other: Relation = rng.choice(others)
            taken = _RELATION_TAKEN_FOR[claim.relation] if turned == "systematic" else other
            claim = replace(claim, relation=taken)
        return claim
    (shape,), (colour,) = claim.shapes, claim.colours
    if wrong := happens("colour"):
        other_colour = rng.choice([c for c in COLOURS if c != colour])
        colour = _COLOUR_TAKEN_FOR[colour] if wrong == "systematic" else other_colour
    if wrong := happens("shape"):
        other_shape = rng.choice([s for s in SHAPES if s != shape])
        shape = _SHAPE_TAKEN_FOR[shape] if wrong == "systematic" else other_shape
    claim = replace(claim, shapes=(shape,), colours=(colour,))
    if claim.kind == "count" and (wrong := happens("count")):
        other_count = rng.choice([n for n in (1, 2, 3) if n != claim.count])
        count = 5 - claim.count if wrong == "systematic" else other_count
        claim = replace(claim, count=count, kind="one" if count == 1 else "count")
    if claim.place is not None and (wrong := happens("place")):
        other_place = rng.choice([p for p in PLACES if p != claim.place])
        place = _PLACE_TAKEN_FOR[claim.place] if wrong == "systematic" else other_place
        claim = replace(claim, place=place)
    return claim


def _recoloured(claim: Claim, rng: Random, *, systematic: bool) -> Claim:
    """Two things in each other's colours, or one of them in a third."""
    if systematic:
        return replace(claim, colours=claim.colours[::-1])
    colours = list(claim.colours)
    colours[rng.randrange(2)] = rng.choice([c for c in COLOURS if c not in claim.colours])
    return replace(claim, colours=tuple(colours))
