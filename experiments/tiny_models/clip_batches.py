"""Batches of the CLIP's training: pictures, and which of all captions are true of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny

from experiments.tiny_models.clip_claims import opened, trainable_claim, wrong_claims
from synthvlm.tiny.captions import Claim, holds, sample_scene
from synthvlm.tiny.world import BACKGROUNDS, COLOURS, SHAPES, Scene

__all__ = ["Batch", "augment", "draw_batch"]

_THROUGH_AUTOENCODER = 0.4  # share of pictures


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures and captions.

    Attributes:
        scenes: The n pictures.
        claims: Each picture's own caption, then the first picture's changed ones, and so on.
        true: Which caption is true of which picture, (n, captions).
        changed: Which caption was made by changing which picture's, (n, captions).
    """

    scenes: list[Scene]
    claims: list[Claim]
    true: torch.Tensor
    changed: torch.Tensor


def draw_batch(count: int, negatives: int, malformed: float, rng: Random) -> Batch:
    """A random batch.

    Args:
        count: Of pictures.
        negatives: Changed captions of each picture.
        malformed: Share of pictures of which no caption is true.
        rng: Source of randomness.
    """
    claims, scenes, wrong = [], [], []
    for _ in range(count):
        claim = trainable_claim(rng)
        scene = sample_scene(claim, rng, rng.choice((1.0, 2.5)))
        if rng.random() < malformed:
            wrong += [*wrong_claims(claim, scene, rng, negatives - 1), claim]
            scene = _malformed(scene, rng)
        else:
            claim = opened(claim, rng)
            wrong += wrong_claims(claim, scene, rng, negatives)
        claims.append(claim)
        scenes.append(scene)
    claims += wrong
    true = torch.tensor([[holds(claim, scene) for claim in claims] for scene in scenes])
    own = torch.eye(count, dtype=torch.bool)
    changed = torch.cat([torch.zeros_like(own), own.repeat_interleave(negatives, 1)], 1)
    return Batch(scenes, claims, true, changed)


def _malformed(scene: Scene, rng: Random) -> Scene:
    things = list(scene.things)
    i = rng.randrange(len(things))
    thing = things[i]
    fault = rng.random()
    if fault < 0.35:
        other = rng.choice([b for b in BACKGROUNDS if b != scene.background])
        return replace(scene, stain=other)
    if fault < 0.6:
        blend = rng.choice([s for s in SHAPES if s != thing.shape])
        things[i] = replace(thing, blend=blend, mix=rng.uniform(0.35, 0.65))
    elif fault < 0.7:
        things[i] = replace(thing, wobble=rng.uniform(0.09, 0.16) * thing.radius)
    else:
        things[i] = replace(thing, stain=rng.choice([c for c in COLOURS if c != thing.colour]))
    return replace(scene, things=tuple(things))


def augment(pixels: torch.Tensor, codec: AutoencoderTiny | None) -> torch.Tensor:
    """Make drawings look like generated pictures: autoencoder, blur, noise, colour shifts."""
    n = len(pixels)
    if codec is not None:
        k = int(_THROUGH_AUTOENCODER * n)
        with torch.no_grad():
            latents = codec.encoder(pixels[:k])
            level = torch.rand(k, 1, 1, 1) * 0.3
            pixels[:k] = codec.decoder(latents + level * torch.randn_like(latents)).clamp(-1, 1)
    return blur_and_shift(pixels, 0.7)


def blur_and_shift(pixels: torch.Tensor, most: float) -> torch.Tensor:
    """Blur a quarter, by at most so much; shift the colours of another quarter, and add noise."""
    order = torch.randperm(len(pixels))
    m = len(pixels) // 4
    some = pixels[order[:m]]
    blurred = F.avg_pool2d(F.pad(some, (1, 1, 1, 1), mode="replicate"), 3, 1)
    pixels[order[:m]] = torch.lerp(some, blurred, torch.rand(m, 1, 1, 1) * most)
    some = order[m : 2 * m]
    pixels[some] += 0.02 * torch.randn(m, 3, 1, 1) + 0.03 * torch.randn_like(pixels[some])
    return pixels.clamp_(-1, 1)
