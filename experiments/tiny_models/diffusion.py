"""Train the diffusion model (UNet and its text encoder) on the autoencoder's latents.

Run it with `python -m experiments.tiny_models.diffusion --out .training/diffusion.pt`.

Two processes, one a core, share the work when both are started with `--ranks 2`, one of them with
`--rank 1`; the first alone writes checkpoints.

Needs the tokenizer, the autoencoder and (to start the text encoder from) the CLIP.
"""

from __future__ import annotations

import argparse
from collections import deque
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import distributed
from transformers import CLIPTokenizer

from experiments.tiny_models import checkpoint, options
from experiments.tiny_models.autoencoder_model import frozen, to_tensor
from experiments.tiny_models.diffusion_model import (
    Trainer,
    build,
    build_scheduler,
    build_text_encoder,
    token_ids,
)
from experiments.tiny_models.loop import Run, seed_step
from synthvlm.tiny.captions import KINDS, Claim, is_held_out, phrase, sample_claim, sample_scene
from synthvlm.tiny.world import render

__all__ = ["main", "make_parser"]


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_training(parser, out="diffusion.pt", steps=100_000, batch=48, rate=8e-4, seed=3)
    options.add_files(parser, "tokenizer", "autoencoder.pt", "clip.pt")
    parser.add_argument("--mix", default="0.35,0.15,0.15,0.35", help="shares of the four kinds")
    parser.add_argument("--noisy", type=float, default=0.6, help="below 1: more noisy timesteps")
    parser.add_argument("--ranks", type=int, default=1, help="processes that train together")
    parser.add_argument("--rank", type=int, default=0, help="which of them this one is")
    parser.add_argument("--port", type=int, default=29511, help="where they meet")
    return parser


def _draw(count: int, mix: list[float], rng: Random) -> tuple[torch.Tensor, list[str]]:
    """Pictures and their captions, one in ten of them empty for the guidance."""
    claims = [_trainable_claim(mix, rng) for _ in range(count)]
    images = render([sample_scene(claim, rng) for claim in claims])
    captions = ["" if rng.random() < 0.1 else phrase(claim, rng) for claim in claims]
    return to_tensor(images), captions


def _trainable_claim(mix: list[float], rng: Random) -> Claim:
    kind = rng.choices(KINDS, mix)[0]
    while is_held_out(claim := sample_claim(rng, kind)):
        pass
    return claim


def _start(
    trainer: Trainer, args: argparse.Namespace, state: dict[str, Any] | None
) -> tuple[AutoencoderTiny, float]:
    """The autoencoder and the factor that brings its latents to unit spread.

    Where there is no checkpoint, the text encoder starts from the CLIP's.
    """
    if state is not None:
        return frozen(state["autoencoder"]), state["scaling"]
    codec = frozen(checkpoint.needed(args.autoencoder)["averaged"])
    clip = checkpoint.needed(args.clip)["averaged"]
    own = trainer.text_encoder.state_dict()
    tower = {name: clip["text_model." + name.removeprefix("text_model.")] for name in own}
    trainer.text_encoder.load_state_dict(tower)
    return codec, 1.0 / _latent_std(codec)


def _latent_std(codec: AutoencoderTiny) -> float:
    rng = Random(0)
    scenes = [sample_scene(sample_claim(rng), rng) for _ in range(256)]
    with torch.no_grad():
        return float(codec.encoder(to_tensor(render(scenes))).std())


def _loss(
    trainer: Trainer, latents: torch.Tensor, ids: torch.Tensor, alphas: torch.Tensor, noisy: float
) -> torch.Tensor:
    """Error of the predicted velocity; `alphas` is the schedule."""
    # One timestep in each of `count` equal parts of the schedule: less noise in the loss.
    # Noisy ones more often: there the caption decides what the picture shows.
    count = len(latents)
    spread = (torch.randperm(count) + torch.rand(count)) / count
    timesteps = (spread**noisy * len(alphas)).long().clamp_max(len(alphas) - 1)
    noise = torch.randn_like(latents)
    signal = alphas[timesteps].sqrt()[:, None, None, None]
    sigma = (1 - alphas[timesteps]).sqrt()[:, None, None, None]
    predicted = trainer(signal * latents + sigma * noise, timesteps, ids)
    return F.mse_loss(predicted, signal * noise - sigma * latents)


def main(argv: list[str] | None = None) -> None:
    """Train, or go on training, and write checkpoints."""
    args = make_parser().parse_args(argv)
    options.start(args)
    if args.ranks > 1:
        meeting = f"tcp://127.0.0.1:{args.port}"
        distributed.init_process_group(
            "gloo", init_method=meeting, rank=args.rank, world_size=args.ranks
        )
    mix = [float(share) for share in args.mix.split(",")]
    tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
    trainer = Trainer(build(), build_text_encoder(tokenizer))
    trainer.unet.to(memory_format=torch.channels_last)
    state = checkpoint.load(args.out)
    codec, scaling = _start(trainer, args, state)
    images_seen = 0 if state is None else state["images"]
    optimiser = torch.optim.AdamW(
        trainer.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    rates = options.schedule(args, warmup=300)
    run = Run(trainer, optimiser, rates, args.out, state, ema_decay=0.999)
    alphas = build_scheduler().alphas_cumprod
    losses: deque[float] = deque(maxlen=100)
    for step in run.steps():
        images, captions = _draw(args.batch, mix, seed_step(args.seed + 100 * args.rank, step))
        with torch.no_grad():
            latents = codec.encoder(images) * scaling
        loss = _loss(trainer, latents, token_ids(tokenizer, captions), alphas, args.noisy)
        run.descend(loss, ranks=args.ranks)
        images_seen += args.batch * args.ranks
        losses.append(loss.item())
        if run.due(100):
            run.say(f"loss={sum(losses) / len(losses):.4f} images={images_seen}")
        if args.rank == 0 and (run.due(250) or run.done):
            run.save(autoencoder=codec.state_dict(), scaling=scaling, images=images_seen)


if __name__ == "__main__":
    main()
