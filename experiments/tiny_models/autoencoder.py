"""Train the autoencoder: 64x64 pixels to 8x8 latents of 16 channels, and back.

Run it with `python -m experiments.tiny_models.autoencoder --out .training/autoencoder.pt`.

It sees strong noise on its latents: the encoder then says everything several times over, and the
decoder forgives what diffusion leaves. Every second step sees crops of 40x40 around a thing, which
cost less than half and hold nearly all of the edges.
"""

from __future__ import annotations

import argparse
from random import Random

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny

from experiments.tiny_models import checkpoint, options
from experiments.tiny_models.autoencoder_model import build, to_tensor
from experiments.tiny_models.loop import Run, seed_step
from synthvlm.tiny.captions import sample_claim, sample_scene
from synthvlm.tiny.world import Scene, render

__all__ = ["main", "make_parser"]


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_training(
        parser,
        out="autoencoder.pt",
        steps=6000,
        decay_from=3600,
        batch=32,
        rate=1e-3,
        seed=1,
    )
    parser.add_argument("--noise", type=float, default=0.6, help="at most, in latent spreads")
    return parser


def _draw(count: int, rng: Random, *, whole: bool) -> npt.NDArray[np.uint8]:
    """Pictures: half as many if they are whole, else crops."""
    size = count // 2 if whole else count
    scenes = [sample_scene(sample_claim(rng), rng, rng.choice((1.0, 2.5))) for _ in range(size)]
    images = render(scenes)
    return images if whole else _crops(images, scenes, rng)


def _crops(
    images: npt.NDArray[np.uint8], scenes: list[Scene], rng: Random
) -> npt.NDArray[np.uint8]:
    out = np.empty((len(images), 40, 40, 3), np.uint8)
    for i, scene in enumerate(scenes):
        thing = rng.choice(scene.things)
        x = min(max(int(thing.x + rng.uniform(-12, 12)) - 20, 0), 24)
        y = min(max(int(thing.y + rng.uniform(-12, 12)) - 20, 0), 24)
        out[i] = images[i, y : y + 40, x : x + 40]
    return out


def _thumbnail(images: torch.Tensor) -> torch.Tensor:
    """Mean colours of 8x8 pixels, the pale ones pulled apart.

    The first three latent channels are made to hold them: without that, training stays for
    long where all pale tints look alike.
    """
    means = F.avg_pool2d(images, 8)
    return means + 4.0 * F.relu(means - 0.6) - 1.3


def _losses(model: AutoencoderTiny, images: torch.Tensor, noise: float) -> dict[str, torch.Tensor]:
    latents = model.encoder(images)
    std = latents.std()
    level = torch.rand(len(latents), 1, 1, 1) * noise
    noisy = latents + level * std.detach() * torch.randn_like(latents)
    decoded = model.decoder(noisy)
    error = decoded - images
    return {
        # Pale tints differ little: their errors count again as means over 8x8 pixels.
        "tints": 4.0 * F.avg_pool2d(error, 8).abs().mean(),
        "pixels": error.abs().mean() + 2.0 * error.square().mean(),
        "thumbnail": 0.5 * F.mse_loss(latents[:, :3], _thumbnail(images)),
        # Unit spread is what the diffusion model starts from; beyond 3 the decoder is blind.
        "spread": 0.05 * (std - 1).square() + 0.2 * F.relu(latents.abs() - 3).square().mean(),
    }


def main(argv: list[str] | None = None) -> None:
    """Train, or go on training, and write checkpoints."""
    args = make_parser().parse_args(argv)
    options.start(args)
    model = build().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, betas=(0.9, 0.98))
    rates = options.schedule(args, warmup=100)
    run = Run(model, optimiser, rates, args.out, checkpoint.load(args.out), ema_decay=0.995)
    for step in run.steps():
        rng = seed_step(args.seed, step)
        images = to_tensor(_draw(args.batch, rng, whole=step % 2 == 0))
        losses = _losses(model, images, args.noise)
        run.descend(torch.stack(list(losses.values())).sum())
        if run.due(50):
            run.say(" ".join(f"{name}={loss.item():.4f}" for name, loss in losses.items()))
        if run.due(200) or run.done:
            run.save()


if __name__ == "__main__":
    main()
