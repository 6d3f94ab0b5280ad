"""Yes-or-no questions that check each fact of a caption of the closed world, and their answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from synthvlm.tiny.captions import Claim, Relation, relation_of
from synthvlm.tiny.world import Scene, Thing, place_of, size_of

__all__ = ["answers", "atomic_questions"]

_NUMBERS: Final = {2: "two", 3: "three"}
_RELATED: Final[dict[Relation, str]] = {
    "left": "to the left of",
    "right": "to the right of",
    "above": "above",
    "below": "below",
}

#: A question and whether a scene answers it with yes.
_Fact = tuple[str, Callable[[Scene], bool]]


def atomic_questions(claim: Claim) -> list[str]:
    """The questions of a claim, in a fixed order; "Yes" to all of them means that it holds."""
    return [question for question, _ in _facts(claim)]


def answers(claim: Claim, scene: Scene) -> list[bool]:
    """Whether a scene answers each of `atomic_questions(claim)` with yes.

    Of a malformed thing nothing is true but that it is there: it counts as a thing, and is no
    star, and not red. A stained background has no colour.
    """
    return [answer(scene) for _, answer in _facts(claim)]


def _facts(claim: Claim) -> list[_Fact]:
    nouns = list(zip(claim.colours, claim.shapes, strict=True))
    facts: list[_Fact] = []
    if claim.kind == "count":
        (colour, shape), count = nouns[0], claim.count
        asked = f"Are there {_NUMBERS[count]} {colour} {_plural(shape)}?"
        facts.append((asked, lambda scene: len(_things(scene, shape, colour)) == count))
    else:
        for colour, shape in nouns:
            facts += _one_thing(colour, shape)
    shape = claim.shapes[0]
    if claim.size is not None:
        size = claim.size
        asked = f"Is the {shape} {size}?"
        facts.append((asked, lambda s: any(size_of(t.radius) == size for t in _things(s, shape))))
    if claim.place is not None:
        place = claim.place
        asked = f"Is the {shape} in the {place}?"
        facts.append((asked, lambda s: any(place_of(t.x, t.y) == place for t in _things(s, shape))))
    if claim.relation is not None:
        facts.append(_relation(claim, claim.relation))
    if claim.background is not None:
        tint = claim.background
        asked = f"Is the background {tint}?"
        facts.append((asked, lambda s: s.background == tint and s.stain is None))
    facts.append(_exactly(claim.count))
    return facts


def _one_thing(colour: str, shape: str) -> list[_Fact]:
    def has_colour(scene: Scene) -> bool:
        things = _things(scene, shape)
        return bool(things) and all(thing.colour == colour for thing in things)

    return [
        (f"Is there a {colour} {shape}?", lambda scene: bool(_things(scene, shape, colour))),
        (f"Is the {shape} {colour}?", has_colour),
    ]


def _relation(claim: Claim, relation: Relation) -> _Fact:
    (c0, c1), (s0, s1) = claim.colours, claim.shapes

    def stands(scene: Scene) -> bool:
        return any(
            relation_of(a.x, a.y, b.x, b.y) == relation
            for a in _things(scene, s0, c0)
            for b in _things(scene, s1, c1)
        )

    return f"Is the {c0} {s0} {_RELATED[relation]} the {c1} {s1}?", stands


def _exactly(count: int) -> _Fact:
    if count == 1:
        return "Is there exactly one thing?", lambda scene: len(scene.things) == 1
    asked = f"Are there exactly {_NUMBERS[count]} things?"
    return asked, lambda scene: len(scene.things) == count


def _things(scene: Scene, shape: str, colour: str | None = None) -> list[Thing]:
    """The well-formed things of a shape, and of a colour."""
    return [
        thing
        for thing in scene.things
        if thing.shape == shape and colour in (None, thing.colour) and not thing.malformed
    ]


def _plural(shape: str) -> str:
    return "crosses" if shape == "cross" else shape + "s"
