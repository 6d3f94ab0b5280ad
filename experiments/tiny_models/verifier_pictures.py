"""Pictures of the verifier's training: drawings, malformed ones, and candidates of the generator.

Of a drawing it is known what it shows. What a candidate shows, and whether anything in it is
malformed, is told by the checker, as people would label pictures of a large model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from experiments.tiny_models.autoencoder_model import to_tensor
from experiments.tiny_models.clip_batches import blur_and_shift
from experiments.tiny_models.clip_claims import opened, trainable_claim
from synthvlm.tiny.captions import Claim, sample_scene
from synthvlm.tiny.world import BACKGROUNDS, COLOURS, IMAGE_SIZE, SHAPES, Scene, Thing, render

__all__ = ["CELLS", "Pictures", "claim_and_scene", "draw_pictures", "join", "malformed"]

#: How far a patch of 8x8 is from a faultless drawing for it to be malformed, grey levels of 255.
MALFORMED: Final = 12.0

#: What a patch can show, in words: a thing, the background, or something malformed.
CELLS: Final = (*(f"{c} {s}" for c in COLOURS for s in SHAPES), *BACKGROUNDS, "malformed")


@dataclass(frozen=True, slots=True)
class Pictures:
    """n pictures and what is known of them.

    Attributes:
        pixels: (n, 3, 64, 64), -1 to 1.
        claims: What was to be drawn.
        scenes: What is seen, with malformed things marked; None: a candidate of the generator in
            which something is malformed.
        faulty: Whether the picture shows something malformed.
        cells: What of `CELLS` is in each patch of the first pictures, (drawings, 64).
    """

    pixels: torch.Tensor
    claims: list[Claim]
    scenes: list[Scene | None]
    faulty: list[bool]
    cells: torch.Tensor


def join(first: Pictures, second: Pictures) -> Pictures:
    """Two batches as one; only the first may have cells."""
    return Pictures(
        torch.cat([first.pixels, second.pixels]),
        first.claims + second.claims,
        first.scenes + second.scenes,
        first.faulty + second.faulty,
        first.cells,
    )


def claim_and_scene(rng: Random) -> tuple[Claim, Scene]:
    """What is to be drawn: a claim that is not held out, and a scene of proper things."""
    claim = trainable_claim(rng)
    scene = sample_scene(claim, rng, rng.choice((1.0, 1.0, 2.5)))
    return opened(claim, rng), scene


def draw_pictures(count: int, rng: Random) -> Pictures:
    """A random batch of drawings, four in ten malformed; blurred or noisy."""
    claims, proper, shown = [], [], []
    for _ in range(count):
        claim, scene = claim_and_scene(rng)
        claims.append(claim)
        proper.append(scene)
        shown.append(malformed(scene, rng) if rng.random() < 0.4 else scene)
    sharp = to_tensor(render(shown))
    faulty = [_is_faulty(scene) for scene in shown]
    cells = _cells(proper, sharp)
    return Pictures(blur_and_shift(sharp, 0.5), claims, list(shown), faulty, cells)


def _cells(proper: Sequence[Scene], shown: torch.Tensor) -> torch.Tensor:
    """By which thing's box a patch's middle is in; numbers in `CELLS`."""
    middles = np.arange(4, IMAGE_SIZE, 8)
    out = np.empty((len(proper), 8, 8), np.int64)
    for grid, scene in zip(out, proper, strict=True):
        grid[:] = CELLS.index(scene.background)
        for thing in scene.things:
            rows, columns = (np.abs(middles - at) < thing.radius for at in (thing.y, thing.x))
            grid[np.ix_(rows, columns)] = CELLS.index(f"{thing.colour} {thing.shape}")
    apart = (shown - to_tensor(render(proper))).abs().mean(1, keepdim=True) * 127.5
    spoilt = F.avg_pool2d(apart, 8).flatten(1) > MALFORMED
    return torch.from_numpy(out.reshape(-1, 64)).masked_fill(spoilt, len(CELLS) - 1)


def _is_faulty(scene: Scene) -> bool:
    return scene.stain is not None or any(thing.malformed for thing in scene.things)


def malformed(scene: Scene, rng: Random) -> Scene:
    """The scene with a fault: in one thing, in the background, or a fragment beside the things."""
    things = list(scene.things)
    i = rng.randrange(len(things))
    thing = things[i]
    fault = rng.choice(("blotches", "blend", "wobble", "stain", "stain", "fragment"))
    if fault == "blotches":
        other = rng.choice([b for b in BACKGROUNDS if b != scene.background])
        return replace(scene, stain=other)
    if fault == "blend":
        blend = rng.choice([s for s in SHAPES if s != thing.shape])
        things[i] = replace(thing, blend=blend, mix=rng.uniform(0.3, 0.7))
    elif fault == "wobble":
        things[i] = replace(thing, wobble=rng.uniform(0.07, 0.16) * thing.radius)
    elif fault == "stain":
        things[i] = replace(thing, stain=rng.choice([c for c in COLOURS if c != thing.colour]))
    else:
        things.append(_fragment(scene, rng))
    return replace(scene, things=tuple(things))


def _fragment(scene: Scene, rng: Random) -> Thing:
    """A piece of a shape where there is none, sometimes touching a thing."""
    radius = rng.uniform(1.8, 5.0)
    colour = rng.choice((rng.choice(scene.things).colour, rng.choice(tuple(COLOURS))))
    while True:
        x, y = rng.uniform(4, 60), rng.uniform(4, 60)
        if all(max(abs(x - t.x), abs(y - t.y)) > 0.7 * t.radius + radius for t in scene.things):
            return Thing(rng.choice(SHAPES), colour, x, y, radius, wobble=0.2 * radius)
