"""Simple facts about pictures and captions: extra targets that teach the CLIP's towers sooner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from synthvlm.tiny.captions import INVERSE, Claim, Relation, relation_of
from synthvlm.tiny.world import COLOURS, SHAPES, Scene, place_of, size_of

__all__ = ["ATOMS", "Atoms", "claim_atoms", "scene_atoms"]

ATOMS = 640  # at most


class Atoms:
    """The facts' numbers: those of what has which colour are fixed, the others as they are met.

    Attributes:
        numbers: By the fact's name.
    """

    def __init__(self, known: Mapping[str, int]) -> None:
        """Go on from the numbers of a checkpoint."""
        names = (f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
        self.numbers = {**{name: n for n, name in enumerate(names)}, **known}

    def targets(self, facts: list[list[str]]) -> torch.Tensor:
        """Which facts hold, (n, `ATOMS`), 0 or 1."""
        out = torch.zeros(len(facts), ATOMS)
        for row, names in zip(out, facts, strict=True):
            row[[self.numbers.setdefault(name, len(self.numbers)) for name in names]] = 1.0
        return out


def scene_atoms(scene: Scene) -> list[str]:
    """What holds of a picture."""
    things = scene.things
    out = [f"count {len(things)}", f"background {scene.background}"]
    if scene.stain is not None:
        out[-1] = "malformed background"
    for thing in things:
        if thing.malformed:
            out.append("malformed")
            continue
        out.append(f"{thing.colour} {thing.shape}")
        out.append(f"{thing.colour} in {place_of(thing.x, thing.y)}")
        out.append(f"{thing.shape} in {place_of(thing.x, thing.y)}")
    if len(things) == 1:
        out.append(f"size {size_of(things[0].radius)}")
    if len(things) == 2 and things[0].colour != things[1].colour:
        a, b = things
        pairs = [(a.colour, b.colour), (a.shape, b.shape)]
        out += _related(relation_of(a.x, a.y, b.x, b.y), pairs)
    return out


def claim_atoms(claim: Claim) -> list[str]:
    """What a caption says."""
    out = [f"count {claim.count}"]
    out += [f"{c} {s}" for c, s in zip(claim.colours, claim.shapes, strict=True)]
    if claim.background is not None:
        out.append(f"background {claim.background}")
    if claim.size is not None:
        out.append(f"size {claim.size}")
    if claim.place is not None:
        out += [f"{claim.colours[0]} in {claim.place}", f"{claim.shapes[0]} in {claim.place}"]
    if claim.relation is not None:
        out += _related(claim.relation, [claim.colours, claim.shapes])
    return out


def _related(relation: Relation, pairs: Sequence[tuple[str, ...]]) -> list[str]:
    """The same words from whichever end it is told."""
    if relation in ("right", "below"):
        relation = INVERSE[relation]
        pairs = [pair[::-1] for pair in pairs]
    return [f"{a} {relation} {b}" for a, b in pairs]
