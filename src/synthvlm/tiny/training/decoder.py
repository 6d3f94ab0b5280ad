"""Fit the decoder to what the diffusion model leaves, the encoder and the UNet being fixed.

Run it with `python -m synthvlm.tiny.training.decoder --out .training/decoder.pt`.

Half of the latents are the encoder's with noise, half are the UNet's guesses at them from a
noisy start: the decoder learns to draw a crisp picture from latents that are slightly off.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from transformers import CLIPTokenizer

from synthvlm.tiny.captions import Claim, is_held_out, phrase, sample_claim, sample_scene
from synthvlm.tiny.training import autoencoder, checkpoint, diffusion
from synthvlm.tiny.world import render

__all__ = ["main"]


@torch.no_grad()
def _guesses(
    unet: diffusion.Trainer, latents: torch.Tensor, ids: torch.Tensor, low: int, high: int
) -> torch.Tensor:
    """The UNet's estimates of scaled latents from timesteps between `low` and `high`."""
    alphas = diffusion.build_scheduler().alphas_cumprod
    timesteps = torch.randint(low, high, (len(latents),))
    signal = alphas[timesteps].sqrt()[:, None, None, None]
    sigma = (1 - alphas[timesteps]).sqrt()[:, None, None, None]
    noisy = signal * latents + sigma * torch.randn_like(latents)
    guesses: torch.Tensor = signal * noisy - sigma * unet(noisy, timesteps, ids)
    return guesses


def main(argv: list[str] | None = None) -> None:
    """Train, or go on training, and write checkpoints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".training/decoder.pt"))
    parser.add_argument("--tokenizer", type=Path, default=Path(".training/tokenizer"))
    parser.add_argument("--autoencoder", type=Path, default=Path(".training/autoencoder.pt"))
    parser.add_argument("--diffusion", type=Path, default=Path(".training/diffusion.pt"))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--decay-from", type=int, default=300)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--noise", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
    drawn = checkpoint.load(args.diffusion)
    start = checkpoint.load(args.autoencoder)
    if drawn is None or start is None:
        raise SystemExit("train the autoencoder and the diffusion model first")
    unet = diffusion.Trainer(diffusion.build(), diffusion.build_text_encoder(tokenizer))
    unet.load_state_dict(drawn["averaged"])
    unet.unet.to(memory_format=torch.channels_last)
    scaling = drawn["scaling"]
    model: AutoencoderTiny = autoencoder.build().to(memory_format=torch.channels_last)
    model.load_state_dict(start["averaged"])
    optimiser = torch.optim.AdamW(model.decoder.parameters(), lr=args.rate, betas=(0.9, 0.98))
    ema = checkpoint.Ema(model, 0.995)
    step, cpu_before = 0, 0.0
    state = checkpoint.load(args.out)
    if state is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        ema.values, step, cpu_before = state["ema"], state["step"], state["cpu_seconds"]
    began, cpu = time.time(), time.process_time()
    while step < args.steps:
        rng = checkpoint.seed_step(args.seed, step)
        claims: list[Claim] = []
        while len(claims) < args.batch:
            claim = sample_claim(rng)
            if not is_held_out(claim):
                claims.append(claim)
        images = autoencoder.to_tensor(render([sample_scene(claim, rng) for claim in claims]))
        ids = diffusion.token_ids(tokenizer, [phrase(claim, rng) for claim in claims])
        half = args.batch // 2
        with torch.no_grad():
            latents = model.encoder(images)
        guessed = _guesses(unet, scaling * latents[:half], ids[:half], 50, 500) / scaling
        rest = latents[half:]
        rest = rest + torch.rand(len(rest), 1, 1, 1) * args.noise * torch.randn_like(rest)
        error = model.decoder(torch.cat([guessed, rest])) - images
        loss = error.abs().mean() + 2.0 * error.square().mean()
        loss = loss + 2.0 * F.avg_pool2d(error, 8).abs().mean()
        rate = checkpoint.learning_rate(
            step, peak=args.rate, warmup=50, steps=args.steps, decay_from=args.decay_from
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.decoder.parameters(), 1.0)
        optimiser.step()
        ema.update(model, step)
        step += 1
        if step % 50 == 0:
            print(f"{step} loss={loss.item():.4f} {time.time() - began:.0f}s", flush=True)
        if step % 100 == 0 or step == args.steps:
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
