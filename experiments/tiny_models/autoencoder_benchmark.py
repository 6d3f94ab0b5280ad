"""How much noise on its latents does the bundled autoencoder bear? Asked of true drawings.

    python -m experiments.tiny_models.autoencoder_benchmark [--vae FOLDER]

Drawings are encoded, noise is added (in shares of the latents' spread), and what is decoded is
judged by `synthvlm.tiny.checker` against the caption that the drawing was made for.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random

import torch
from diffusers import AutoencoderTiny

from experiments.tiny_models.autoencoder_model import to_tensor
from synthvlm.tiny import pipeline_path
from synthvlm.tiny.captions import sample_claim, sample_scene
from synthvlm.tiny.checker import check
from synthvlm.tiny.world import render

LEVELS = (0.0, 0.1, 0.3, 0.5, 0.7)


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", type=Path, default=pipeline_path() / "vae")
    parser.add_argument("--drawings", type=int, default=500)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = Random(5)
    claims = [sample_claim(rng) for _ in range(args.drawings)]
    images = to_tensor(render([sample_scene(claim, rng) for claim in claims]))
    vae = AutoencoderTiny.from_pretrained(args.vae, dtype=torch.float32)
    print("| noise | wholly right, % |\n|---|---|")
    with torch.no_grad():
        latents = vae.encoder(images)
        for level in LEVELS:
            noisy = latents + level * latents.std() * torch.randn_like(latents)
            decoded = vae.decoder(noisy).clamp(-1, 1).add(1).mul(127.5).round().byte()
            pixels = decoded.permute(0, 2, 3, 1).numpy()
            right = sum(check(p, c) for p, c in zip(pixels, claims, strict=True))
            print(f"| {level} | {100 * right / len(claims):.1f} |")


if __name__ == "__main__":
    main()
