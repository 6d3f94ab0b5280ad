"""Train the autoencoder: 64x64 pixels to 8x8 latents of 16 channels, and back.

Run it with `python -m synthvlm.tiny.training.autoencoder --out .training/autoencoder.pt`.

It has no normalisation layers, so that pale background tints survive, and sees strong noise on
its latents: the encoder then says everything several times over, and the decoder forgives what
diffusion leaves. Every second step sees crops of 40x40 around a thing, which cost less than half
and hold nearly all of the edges.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny

from synthvlm.tiny.captions import sample_claim, sample_scene
from synthvlm.tiny.training import checkpoint
from synthvlm.tiny.world import Scene, render

__all__ = ["build", "main", "to_tensor"]

LATENT_CHANNELS = 16
WIDTH = 32


def build() -> AutoencoderTiny:
    """A new autoencoder with random weights."""
    return AutoencoderTiny(
        encoder_block_out_channels=(WIDTH,) * 4,
        decoder_block_out_channels=(WIDTH,) * 4,
        num_encoder_blocks=(0, 2, 3, 3),
        num_decoder_blocks=(8, 3, 2, 1),  # cheap where pictures are 8x8
        latent_channels=LATENT_CHANNELS,
        scaling_factor=1.0,
    )


def to_tensor(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """RGB (n, h, w, 3), 0 to 255, as channels-last (n, 3, h, w), -1 to 1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def _crops(
    images: npt.NDArray[np.uint8], scenes: list[Scene], rng: random.Random
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


def _loss(model: AutoencoderTiny, images: torch.Tensor, noise: float) -> dict[str, torch.Tensor]:
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".training/autoencoder.pt"))
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--decay-from", type=int, default=3600)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--noise", type=float, default=0.6, help="at most, in latent spreads")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = build().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, betas=(0.9, 0.98))
    ema = checkpoint.Ema(model, 0.995)
    step, cpu_before = 0, 0.0
    state = checkpoint.load(args.out)
    if state is not None:
        model.load_state_dict(state["model"])
        if "optimiser" in state:  # not where shipped weights were restored
            optimiser.load_state_dict(state["optimiser"])
        ema.values, step = state["ema"], state["step"]
        cpu_before = state["cpu_seconds"]
    began, cpu = time.time(), time.process_time()
    while step < args.steps:
        rng = checkpoint.seed_step(args.seed, step)
        whole = step % 2 == 0
        size = args.batch // 2 if whole else args.batch
        scenes = [sample_scene(sample_claim(rng), rng, rng.choice((1.0, 2.5))) for _ in range(size)]
        images = render(scenes)
        batch = to_tensor(images if whole else _crops(images, scenes, rng))
        rate = checkpoint.learning_rate(
            step, peak=args.rate, warmup=100, steps=args.steps, decay_from=args.decay_from
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        losses = _loss(model, batch, args.noise)
        total = torch.stack(list(losses.values())).sum()
        optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        ema.update(model, step)
        step += 1
        if step % 50 == 0:
            parts = " ".join(f"{k}={v.item():.4f}" for k, v in losses.items())
            print(f"{step} {parts} {time.time() - began:.0f}s", flush=True)
        if step % 200 == 0 or step == args.steps:
            saved: dict[str, Any] = {
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "ema": ema.values,
                "averaged": ema.state_dict(model),
                "step": step,
                "cpu_seconds": cpu_before + time.process_time() - cpu,
            }
            checkpoint.save(args.out, saved)


if __name__ == "__main__":
    main()
