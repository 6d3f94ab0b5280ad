"""Pictures of the verifier's training: drawings, malformed ones, and what the models made of some.

What the autoencoder and the generator spoil is not judged by the checker, nor by any model: such
a picture is made from a known drawing and compared with it, pixel by pixel. Where the two hardly
differ, the picture shows what was drawn; where they differ much, it is malformed; pictures in
between are asked nothing about the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, StableDiffusionPipeline

from experiments.tiny_models.autoencoder_model import to_tensor
from experiments.tiny_models.clip_batches import blur_and_shift
from experiments.tiny_models.clip_claims import opened, trainable_claim, wrong_claims
from experiments.tiny_models.diffusion_model import token_ids
from synthvlm.tiny import pipeline_path
from synthvlm.tiny.captions import Claim, phrase, sample_scene
from synthvlm.tiny.world import BACKGROUNDS, COLOURS, IMAGE_SIZE, SHAPES, Scene, Thing, render

__all__ = ["Makers", "Pictures", "claim_and_scene", "compare", "draw_pictures", "malformed"]

Floats = npt.NDArray[np.float32]

STEPS: Final = 3  # of the generator, as in the recipe
GUIDANCE: Final = 2.0

# Compared with its drawing: a thing's differing area over its outline's length, pixels.
ALIKE, UNLIKE = 0.42, 0.62
UNEVEN: Final = 24.0  # what a pixel of the background may differ, of 441
BLOTCH: Final = (15, 40)  # so many such pixels are none, or a blotch
EXTRA: Final = 100.0  # what differs by more than this is a thing where none was drawn


@dataclass(frozen=True, slots=True)
class Pictures:
    """n pictures and what is known of them.

    Attributes:
        pixels: (n, 3, 64, 64), -1 to 1.
        claims: What was to be drawn.
        scenes: What is seen, with malformed things marked; None where that is unclear.
        faulty: Whether the picture shows something malformed; None where that is unclear.
        errors: How far patches of 8x8 are from a faultless drawing, (n, 64), 0 to 1.
        cells: What of `CELLS` is in each patch, (n, 64).
    """

    pixels: torch.Tensor
    claims: list[Claim]
    scenes: list[Scene | None]
    faulty: list[bool | None]
    errors: torch.Tensor
    cells: torch.Tensor


#: What a patch can show, in words: a thing, or the background.
CELLS: Final = (*(f"{c} {s}" for c in COLOURS for s in SHAPES), *BACKGROUNDS)


class Makers:
    """The shipped autoencoder and generator, which spoil drawings as they spoil their own."""

    def __init__(self) -> None:
        """Load them in fp32."""
        pipeline: Any = StableDiffusionPipeline.from_pretrained(
            pipeline_path(), dtype=torch.float32, safety_checker=None
        )
        self._codec, self._unet = pipeline.vae, pipeline.unet
        self._encoder, self._tokenizer = pipeline.text_encoder, pipeline.tokenizer
        self._scheduler: Any = DDIMScheduler.from_config(pipeline.scheduler.config)
        self._scheduler.set_timesteps(STEPS)
        self._scaling = float(self._codec.config.scaling_factor)

    @torch.no_grad()
    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Latents of unit spread."""
        latents: torch.Tensor = self._codec.encoder(pixels) * self._scaling
        return latents

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels, -1 to 1."""
        pixels: torch.Tensor = self._codec.decoder(latents / self._scaling).clamp(-1, 1)
        return pixels

    @torch.no_grad()
    def redraw(self, latents: torch.Tensor, captions: list[str], done: int) -> torch.Tensor:
        """Noise latents to where `done` of the generator's steps are over, and do the others."""
        steps = self._scheduler.timesteps[done:]
        noise = torch.randn_like(latents)
        noisy: torch.Tensor = self._scheduler.add_noise(
            latents, noise, steps[:1].expand(len(latents))
        )
        ids = token_ids(self._tokenizer, captions + [""] * len(captions))
        context = self._encoder(input_ids=ids).last_hidden_state
        for step in steps:
            said, unsaid = self._unet(noisy.repeat(2, 1, 1, 1), step, context).sample.chunk(2)
            velocity = torch.lerp(unsaid, said, GUIDANCE)
            noisy = self._scheduler.step(velocity, step, noisy).prev_sample
        return noisy


def draw_pictures(count: int, makers: Makers | None, rng: Random) -> Pictures:
    """A random batch: four in ten drawn anew by the generator, two through the autoencoder.

    Args:
        count: Of pictures.
        makers: None: all are drawings.
        rng: Source of randomness.
    """
    if makers is None:
        return _drawn(count, None, rng)
    redrawn, decoded = round(0.4 * count), round(0.2 * count)
    parts = [
        _redrawn(redrawn, makers, rng),
        _drawn(decoded, makers, rng),
        _drawn(count - redrawn - decoded, None, rng),
    ]
    return Pictures(
        torch.cat([part.pixels for part in parts]),
        [claim for part in parts for claim in part.claims],
        [scene for part in parts for scene in part.scenes],
        [faulty for part in parts for faulty in part.faulty],
        torch.cat([part.errors for part in parts]),
        torch.cat([part.cells for part in parts]),
    )


def claim_and_scene(rng: Random) -> tuple[Claim, Scene]:
    """What is to be drawn: a claim that is not held out, and a scene of proper things."""
    claim = trainable_claim(rng)
    scene = sample_scene(claim, rng, rng.choice((1.0, 1.0, 2.5)))
    return opened(claim, rng), scene


def _drawn(count: int, makers: Makers | None, rng: Random) -> Pictures:
    """Drawings, four in ten malformed; blurred or noisy, or through the autoencoder."""
    claims, proper, shown = [], [], []
    for _ in range(count):
        claim, scene = claim_and_scene(rng)
        claims.append(claim)
        proper.append(scene)
        shown.append(malformed(scene, rng) if rng.random() < 0.4 else scene)
    pixels = to_tensor(render(shown))
    if makers is None:
        pixels = blur_and_shift(pixels, 0.5)
        seen: list[Scene | None] = list(shown)
        faulty: list[bool | None] = [_is_faulty(scene) for scene in shown]
    else:
        latents = makers.encode(pixels)
        level = torch.rand(count, 1, 1, 1) * 0.6
        pixels = makers.decode(latents + level * torch.randn_like(latents))
        seen, spoilt = compare(_rgb(pixels), shown)
        faulty = [
            True if _is_faulty(scene) else also for scene, also in zip(shown, spoilt, strict=True)
        ]
    return Pictures(pixels, claims, seen, faulty, _errors(pixels, proper), _cells(proper))


def _redrawn(count: int, makers: Makers, rng: Random) -> Pictures:
    """Drawings that the generator half forgot, some of them mixed with a second drawing."""
    claims, firsts, seconds = [], [], []
    for _ in range(count):
        claim, scene = claim_and_scene(rng)
        other = claim if rng.random() < 0.6 else wrong_claims(claim, scene, rng, 1)[0]
        claims.append(claim)
        firsts.append(scene)
        seconds.append(sample_scene(other, rng))
    mixed = torch.tensor([rng.choice((0.0, rng.uniform(0.2, 0.8), rng.random())) for _ in claims])
    mixed = mixed.reshape(-1, 1, 1, 1)
    drawings = makers.encode(to_tensor(render([*firsts, *seconds])))
    latents = torch.lerp(drawings[:count], drawings[count:], mixed)
    captions = [phrase(claim, rng) for claim in claims]
    half = count // 2
    parts = [makers.redraw(latents[:half], captions[:half], 1)]
    parts.append(makers.redraw(latents[half:], captions[half:], 2))
    pixels = makers.decode(torch.cat(parts))
    pictures = _rgb(pixels)
    nearer = [
        scenes[int(apart.argmin())]
        for scenes, apart in zip(
            zip(firsts, seconds, strict=True), _apart(pictures, firsts, seconds), strict=True
        )
    ]
    seen, faulty = compare(pictures, nearer)
    return Pictures(pixels, claims, seen, faulty, _errors(pixels, nearer), _cells(nearer))


def _rgb(pixels: torch.Tensor) -> Floats:
    """(n, 64, 64, 3), 0 to 255, rounded as a saved picture is."""
    rgb: Floats = (pixels.permute(0, 2, 3, 1) * 127.5 + 127.5).round().numpy()
    return rgb


def _apart(pictures: Floats, *drawings: Sequence[Scene]) -> Floats:
    """Mean differences, (n, drawings)."""
    columns = [np.abs(pictures - render(scenes)).mean((1, 2, 3)) for scenes in drawings]
    return np.stack(columns, 1)


def _errors(pixels: torch.Tensor, scenes: Sequence[Scene]) -> torch.Tensor:
    apart = (pixels - to_tensor(render(scenes))).abs().mean(1, keepdim=True) / 2
    return F.avg_pool2d(apart, 8).flatten(1).sqrt()


def _cells(scenes: Sequence[Scene]) -> torch.Tensor:
    """By which thing's box a patch's middle is in; numbers in `CELLS`."""
    middles = np.arange(4, IMAGE_SIZE, 8)
    out = np.empty((len(scenes), 8, 8), np.int64)
    for grid, scene in zip(out, scenes, strict=True):
        grid[:] = CELLS.index(scene.background)
        for thing in scene.things:
            rows, columns = (np.abs(middles - at) < thing.radius for at in (thing.y, thing.x))
            grid[np.ix_(rows, columns)] = CELLS.index(f"{thing.colour} {thing.shape}")
    return torch.from_numpy(out.reshape(-1, 64))


_ACROSS = np.arange(IMAGE_SIZE, dtype=np.float32) + np.float32(0.5)


def compare(
    pictures: Floats, drawn: Sequence[Scene]
) -> tuple[list[Scene | None], list[bool | None]]:
    """What pictures show that were made from drawings.

    Args:
        pictures: (n, 64, 64, 3), 0 to 255.
        drawn: What was drawn, n scenes.

    Returns:
        The scenes with what is malformed marked in them, None where a part is unclear or a thing
        has come in; and whether anything is malformed, None where that is unclear.
    """
    moved = [
        _moved(picture, scene, before)
        for picture, scene, before in zip(pictures, drawn, render(drawn), strict=True)
    ]
    apart = np.linalg.norm(pictures - render(moved), axis=3)
    compared = [
        _compare(differences, scene) for differences, scene in zip(apart, moved, strict=True)
    ]
    return [scene for scene, _ in compared], [faulty for _, faulty in compared]


def _box(thing: Thing) -> tuple[slice, slice]:
    reach = thing.radius + 3
    rows, columns = (
        slice(max(0, round(middle - reach)), min(IMAGE_SIZE, round(middle + reach)))
        for middle in (thing.y, thing.x)
    )
    return rows, columns


def _contrast(thing: Thing, scene: Scene) -> Floats:
    ground = np.array(BACKGROUNDS[scene.background], np.float32)
    return np.array(COLOURS[thing.colour], np.float32) - ground


def _moved(picture: Floats, scene: Scene, drawn: npt.NDArray[np.uint8]) -> Scene:
    """The scene with its things where the picture has them, and as large: within a pixel."""
    things = []
    for thing in scene.things:
        line = _contrast(thing, scene)
        rows, columns = box = _box(thing)
        ground = np.array(BACKGROUNDS[scene.background], np.float32)
        old, new = (
            np.clip((image[box] - ground) @ line / (line @ line), 0, 1)
            for image in (drawn, picture)
        )
        ys, xs = _ACROSS[rows, None], _ACROSS[None, columns]
        before, after = max(1.0, float(old.sum())), max(1.0, float(new.sum()))
        dx, dy, dr = (
            float(np.clip(value, -1.0, 1.0))
            for value in (
                (new * xs).sum() / after - (old * xs).sum() / before,
                (new * ys).sum() / after - (old * ys).sum() / before,
                thing.radius * ((after / before) ** 0.5 - 1),
            )
        )
        there = (thing.x + dx, thing.y + dy, thing.radius + dr)
        things.append(
            thing if thing.malformed else replace(thing, x=there[0], y=there[1], radius=there[2])
        )
    return replace(scene, things=tuple(things))


def _compare(apart: Floats, scene: Scene) -> tuple[Scene | None, bool | None]:
    around = np.ones(apart.shape, bool)
    things: list[Thing] = []
    clear, faulty = True, False
    for thing in scene.things:
        box = _box(thing)
        around[box] = False
        contrast = float(np.linalg.norm(_contrast(thing, scene)))
        off = float(apart[box].sum()) / contrast / (6.5 * thing.radius)
        things.append(thing)
        if off > UNLIKE and not thing.malformed:
            things[-1] = replace(thing, wobble=1.0)
            faulty = True
        clear &= off <= ALIKE or off > UNLIKE or thing.malformed
    uneven = int((apart[around] > UNEVEN).sum())
    stain = scene.stain
    if uneven > BLOTCH[1]:
        stain = scene.background
        faulty = True
    clear &= not BLOTCH[0] < uneven <= BLOTCH[1]
    if (apart[around] > EXTRA).sum() > BLOTCH[0]:
        return None, True
    known = Scene(tuple(things), scene.background, stain) if clear else None
    return known, True if faulty else (False if clear else None)


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
