"""Captions of the closed world: what they claim, how they are worded, and how they are read.

`phrase` words a claim and `parse` reads the wording back; `holds` says whether a scene bears
the claim out, and `sample_scene` draws a scene which does.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace
from random import Random
from typing import Final, Literal, cast

from synthvlm.tiny.world import (
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    Shape,
    Size,
    Thing,
    place_of,
    size_of,
)

__all__ = [
    "INVERSE",
    "KINDS",
    "RELATIONS",
    "Claim",
    "Kind",
    "Relation",
    "holds",
    "is_held_out",
    "parse",
    "phrase",
    "sample_claim",
    "sample_scene",
]

Kind = Literal["one", "count", "pair", "relation"]
Relation = Literal["left", "right", "above", "below"]

KINDS: Final[tuple[Kind, ...]] = ("one", "count", "pair", "relation")
RELATIONS: Final[tuple[Relation, ...]] = ("left", "right", "above", "below")
INVERSE: Final[dict[Relation, Relation]] = {
    "left": "right",
    "right": "left",
    "above": "below",
    "below": "above",
}


@dataclass(frozen=True, slots=True)
class Claim:
    """What a caption says. None means that the caption leaves it open.

    Attributes:
        kind: "one" thing, "count" (two or three alike), "pair" (two different things), or
            "relation" (two different things and where the first is, seen from the second).
        shapes: One shape; two for "pair" and "relation".
        colours: As many colours.
        count: Number of things in the picture.
        size: "small" or "large"; only for "one".
        place: One of `PLACES`; only for "one".
        relation: One of `RELATIONS`; only for "relation".
        background: A key of `BACKGROUNDS`.
    """

    kind: Kind
    shapes: tuple[Shape, ...]
    colours: tuple[str, ...]
    count: int
    size: Size | None = None
    place: str | None = None
    relation: Relation | None = None
    background: str | None = None


def sample_claim(rng: Random, kind: Kind | None = None) -> Claim:
    """A random claim, of a random kind unless one is given."""
    if kind is None:
        kind = rng.choices(KINDS, (0.4, 0.15, 0.15, 0.3))[0]
    background = rng.choice(tuple(BACKGROUNDS)) if rng.random() < 0.5 else None
    if kind in ("one", "count"):
        shapes: tuple[Shape, ...] = (rng.choice(SHAPES),)
        colours: tuple[str, ...] = (rng.choice(tuple(COLOURS)),)
        if kind == "count":
            return Claim(kind, shapes, colours, rng.choice((2, 3)), background=background)
        sizes: tuple[Size, ...] = ("small", "large")
        size = rng.choice(sizes) if rng.random() < 0.5 else None
        place = rng.choice(PLACES) if rng.random() < 0.5 else None
        return Claim(kind, shapes, colours, 1, size, place, background=background)
    shapes = tuple(rng.sample(SHAPES, 2))
    colours = tuple(rng.sample(tuple(COLOURS), 2))
    relation = rng.choice(RELATIONS) if kind == "relation" else None
    return Claim(kind, shapes, colours, 2, relation=relation, background=background)


def is_held_out(claim: Claim) -> bool:
    """True if no model is trained on this claim, in whatever wording (one claim in ten)."""
    if claim.kind == "relation" and claim.relation in ("right", "below"):
        claim = replace(
            claim,
            shapes=claim.shapes[::-1],
            colours=claim.colours[::-1],
            relation=INVERSE[claim.relation],
        )
    elif claim.kind == "pair" and claim.colours[0] > claim.colours[1]:
        claim = replace(claim, shapes=claim.shapes[::-1], colours=claim.colours[::-1])
    return zlib.crc32(repr(claim).encode()) % 10 == 0


def sample_scene(claim: Claim, rng: Random, looseness: float = 1.0) -> Scene:
    """A random scene that bears the claim out; what is left open takes its usual value.

    Unsaid, one thing is of medium size and in the middle, two stand in a row or a column, and
    the background is random.

    Args:
        claim: What the scene must bear out.
        rng: Source of randomness.
        looseness: How far things stray from their tidy places and sizes, 0 to 2.5.
    """
    background = claim.background or rng.choice(tuple(BACKGROUNDS))

    def near(value: float, reach: float) -> float:
        return value + rng.uniform(-reach, reach) * looseness

    if claim.kind == "one":
        low, high = SIZES[claim.size or "medium"]
        radius = near((low + high) / 2, (high - low) / 5)
        row, column = divmod(PLACES.index(claim.place or "middle"), 3)
        # No part of a thing leaves the picture.
        edge = radius + 0.5
        centres = (max(16.0, radius + 1.5), 32.0, min(48.0, 62.5 - radius))
        x, y = (min(max(near(centres[i], 1.2), edge), 64 - edge) for i in (column, row))
        return Scene((Thing(claim.shapes[0], claim.colours[0], x, y, radius),), background)
    if claim.kind == "count":
        columns = (17.0, 47.0) if claim.count == 2 else (11.0, 32.0, 53.0)
        radius = near(10.5, 0.4) if claim.count == 2 else near(8.0, 0.2)
        level = near(32.0, 2.5)
        things = tuple(
            Thing(claim.shapes[0], claim.colours[0], near(x, 0.4), near(level, 0.8), radius)
            for x in columns
        )
        return Scene(things, background)
    relation = claim.relation or rng.choice(RELATIONS)
    level = near(32.0, 1.5)
    along = [near(17.0, 0.8), near(47.0, 0.8)]
    if relation in ("right", "below"):
        along.reverse()
    things = tuple(
        Thing(shape, colour, a, near(level, 0.6), near(11.0, 0.5))
        if relation in ("left", "right")
        else Thing(shape, colour, near(level, 0.6), a, near(11.0, 0.5))
        for shape, colour, a in zip(claim.shapes, claim.colours, along, strict=True)
    )
    return Scene(things, background)


def holds(claim: Claim, scene: Scene) -> bool:
    """True if the picture shows what the claim says, and no other thing."""
    things = scene.things
    if len(things) != claim.count:
        return False
    if claim.background is not None and claim.background != scene.background:
        return False
    if scene.stain is not None or any(thing.malformed for thing in things):
        return False
    if claim.kind in ("one", "count"):
        shape, colour = claim.shapes[0], claim.colours[0]
        if any(t.colour != colour or t.shape != shape for t in things):
            return False
        first = things[0]
        return (claim.size is None or claim.size == size_of(first.radius)) and (
            claim.place is None or claim.place == place_of(first.x, first.y)
        )
    first, second = things
    if first.colour != claim.colours[0]:
        first, second = second, first
    if (first.colour, second.colour) != claim.colours:
        return False
    if (first.shape, second.shape) != claim.shapes:
        return False
    return claim.relation is None or claim.relation == relation_of(
        first.x, first.y, second.x, second.y
    )


def relation_of(x0: float, y0: float, x1: float, y1: float) -> Relation:
    """Where the first centre is, seen from the second (pixels, y downward)."""
    dx, dy = x0 - x1, y0 - y1
    if abs(dx) >= abs(dy):
        return "left" if dx < 0 else "right"
    return "above" if dy < 0 else "below"


_SIZE_WORDS: Final[dict[Size, tuple[str, ...]]] = {
    "small": ("small", "little", "tiny"),
    "large": ("large", "big", "huge"),
}
_FRAMES: Final = ("", "", "", "there is ", "a picture of ", "a drawing of ", "an image of ")
_GROUNDS: Final = (
    "{} on a {} background",
    "{} on a {} background",
    "{} against a {} background",
    "{} on a {} ground",
    "{}. the background is {}",
    "{}, all on {} paper",
)
_GROUND_FIRST: Final = "on a {1} background, {0}"
_ARRANGED: Final[dict[int, tuple[str, ...]]] = {
    2: ("", "", " side by side", " next to each other"),
    3: ("", "", " in a row", " in a line"),
}
_NUMBERS: Final[dict[int, str]] = {2: "two", 3: "three"}
_JOINS: Final = ("and", "and", "with", "next to")
_RELATED: Final[dict[Relation, tuple[str, ...]]] = {
    "left": ("to the left of", "left of", "on the left of"),
    "right": ("to the right of", "right of", "on the right of"),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
}
_BOTH_ENDS: Final[dict[Relation, str]] = {
    "left": "{} on the left and {} on the right",
    "right": "{} on the right and {} on the left",
    "above": "{} at the top and {} at the bottom",
    "below": "{} at the bottom and {} at the top",
}


def _place_words(place: str) -> tuple[str, ...]:
    if place == "middle":
        return (" in the middle", " in the center")
    if " " in place:
        return (f" at the {place}", f" in the {place} corner", f" in the {place}")
    return (f" at the {place}", f" on the {place} side", f" near the {place} edge")


def _plural(shape: str) -> str:
    return "crosses" if shape == "cross" else shape + "s"


def phrase(claim: Claim, rng: Random) -> str:
    """Word a claim; the wording is random."""
    nouns = [f"a {c} {s}" for c, s in zip(claim.colours, claim.shapes, strict=True)]
    frame = rng.choice(_FRAMES)
    if claim.kind == "one":
        core = nouns[0]
        if claim.size is not None:
            core = f"a {rng.choice(_SIZE_WORDS[claim.size])} {core[2:]}"
        if claim.place is not None:
            core += rng.choice(_place_words(claim.place))
    elif claim.kind == "count":
        frame = frame.replace("there is", "there are")
        core = f"{_NUMBERS[claim.count]} {claim.colours[0]} {_plural(claim.shapes[0])}"
        core += rng.choice(_ARRANGED[claim.count])
    elif claim.relation is None:
        core = f"{nouns[0]} {rng.choice(_JOINS)} {nouns[1]}"
    elif rng.random() < 0.25:
        core = _BOTH_ENDS[claim.relation].format(*nouns)
    else:
        core = f"{nouns[0]} {rng.choice(_RELATED[claim.relation])} {nouns[1]}"
    text = frame + core
    if claim.background is not None:
        ground = _GROUND_FIRST if rng.random() < 0.12 else rng.choice(_GROUNDS)
        text = ground.format(text, claim.background)
    if rng.random() < 0.6:
        text = ". ".join(part[0].upper() + part[1:] for part in text.split(". ")) + "."
    return text


def _alternatives(words: object) -> str:
    return "|".join(re.escape(word) for word in cast("list[str]", words))


_TINT: Final = f"(?P<tint>{_alternatives(list(BACKGROUNDS))})"
_GROUNDED: Final = tuple(
    re.compile(
        re.escape(ground.replace("{0}", "TEXT").replace("{1}", "TINT"))
        .replace("TEXT", "(?P<text>.+)")
        .replace("TINT", _TINT)
    )
    for ground in (_GROUND_FIRST, *(g.format("{0}", "{1}") for g in _GROUNDS))
)
_SIZE_OF_WORD: Final = {word: size for size, words in _SIZE_WORDS.items() for word in words}
_PLACE_OF_WORDS: Final = {words: place for place in PLACES for words in _place_words(place)}
_RELATION_OF_WORDS: Final = {w: relation for relation, words in _RELATED.items() for w in words}
_SHAPE_OF_PLURAL: Final = {_plural(shape): shape for shape in SHAPES}
_COLOUR: Final = f"({_alternatives(list(COLOURS))})"
_NOUN: Final = f"a {_COLOUR} ({_alternatives(list(SHAPES))})"
_FRAMED: Final = re.compile(
    f"(?:{_alternatives(sorted({*_FRAMES, 'there are '}, key=len, reverse=True))})(.+)"
)
_ONE: Final = re.compile(
    f"a (?:({_alternatives(list(_SIZE_OF_WORD))}) )?{_NOUN[2:]}"
    f"({_alternatives(list(_PLACE_OF_WORDS))})?"
)
_COUNT: Final = re.compile(
    f"(two|three) {_COLOUR} ({_alternatives(list(_SHAPE_OF_PLURAL))})"
    f"({_alternatives(sorted({w for v in _ARRANGED.values() for w in v}, reverse=True))})"
)
_PAIR: Final = re.compile(f"{_NOUN} (?:{_alternatives(sorted(set(_JOINS)))}) {_NOUN}")
_RELATION: Final = re.compile(f"{_NOUN} ({_alternatives(list(_RELATION_OF_WORDS))}) {_NOUN}")
_ENDS: Final = {
    relation: re.compile(words.format(_NOUN, _NOUN)) for relation, words in _BOTH_ENDS.items()
}


def parse(caption: str) -> Claim | None:
    """Read a caption of the world back; None if it is not one."""
    text = caption.strip().lower().removesuffix(".")
    background = None
    for pattern in _GROUNDED:
        match = pattern.fullmatch(text)
        if match is not None:
            text, background = match["text"], match["tint"]
            break
    framed = _FRAMED.fullmatch(text)
    claim = None if framed is None else _parse_core(framed[1])
    return None if claim is None else replace(claim, background=background)


def _parse_core(text: str) -> Claim | None:
    if match := _ONE.fullmatch(text):
        word, colour, shape, place = match.groups()
        size = None if word is None else _SIZE_OF_WORD[word]
        where = None if place is None else _PLACE_OF_WORDS[place]
        return Claim("one", (cast("Shape", shape),), (colour,), 1, size, where)
    if match := _COUNT.fullmatch(text):
        number, colour, plural, arranged = match.groups()
        count = 2 if number == "two" else 3
        if arranged not in _ARRANGED[count]:
            return None
        return Claim("count", (_SHAPE_OF_PLURAL[plural],), (colour,), count)
    if match := _PAIR.fullmatch(text):
        c0, s0, c1, s1 = match.groups()
        return Claim("pair", (cast("Shape", s0), cast("Shape", s1)), (c0, c1), 2)
    if match := _RELATION.fullmatch(text):
        c0, s0, words, c1, s1 = match.groups()
        relation = _RELATION_OF_WORDS[words]
        shapes = (cast("Shape", s0), cast("Shape", s1))
        return Claim("relation", shapes, (c0, c1), 2, relation=relation)
    for relation, pattern in _ENDS.items():
        if match := pattern.fullmatch(text):
            c0, s0, c1, s1 = match.groups()
            shapes = (cast("Shape", s0), cast("Shape", s1))
            return Claim("relation", shapes, (c0, c1), 2, relation=relation)
    return None
