"""Train the CLIP: a sigmoid loss with hard negatives, so that cosines compare across captions.

Run it with `python -m experiments.tiny_models.clip --out .training/clip.pt`.

Every picture comes with its caption and with captions that have one attribute changed; which of
all caption-picture pairs of a batch are true is known exactly. Some pictures show malformed
things, some went through the autoencoder. No generated picture and no checker is involved.
"""

from __future__ import annotations

import argparse
from random import Random

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from transformers import CLIPTokenizer

from experiments.tiny_models import checkpoint, options
from experiments.tiny_models.autoencoder_model import frozen, to_tensor
from experiments.tiny_models.clip_atoms import Atoms, claim_atoms, scene_atoms
from experiments.tiny_models.clip_batches import Batch, augment, draw_batch
from experiments.tiny_models.clip_model import MIDDLE, SCALE, Trainer, build
from experiments.tiny_models.loop import Run, seed_step
from experiments.tiny_models.tokenizer import PREFIX
from synthvlm.tiny.captions import phrase
from synthvlm.tiny.world import render

__all__ = ["main", "make_parser"]


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_training(parser, out="clip.pt", steps=100_000, batch=64, rate=1e-3, seed=2)
    options.add_files(parser, "tokenizer", "autoencoder.pt")
    parser.add_argument("--autoencoder-from", type=int, default=1000, help="first step")
    parser.add_argument("--negatives", type=int, default=3, help="changed captions per picture")
    parser.add_argument("--malformed", type=float, default=0.12, help="share of such pictures")
    return parser


def _optimiser(trainer: Trainer, rate: float) -> torch.optim.Optimizer:
    decayed = [p for p in trainer.parameters() if p.ndim > 1]
    plain = [p for p in trainer.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def _forward(
    trainer: Trainer,
    batch: Batch,
    tokenizer: CLIPTokenizer,
    codec: AutoencoderTiny | None,
    rng: Random,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cosines (pictures, captions) and the logits of both extra heads."""
    words = [(PREFIX if rng.random() < 0.8 else "") + phrase(c, rng) for c in batch.claims]
    tokens = tokenizer(words, padding=True, return_tensors="pt")
    pixels = augment(to_tensor(render(batch.scenes)), codec)
    outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = trainer(
        pixels.contiguous(), tokens["input_ids"], tokens["attention_mask"].sum(1)
    )
    return outputs


def _pair_losses(cosines: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
    """By true pairs, pictures with their changed captions, and pictures with others' captions."""
    n, true, changed = len(batch.scenes), batch.true, batch.changed
    pair = F.softplus(torch.where(true, -1.0, 1.0) * SCALE * (cosines - MIDDLE))
    return {
        "right": (pair * true).sum() / n,
        "near": (pair * (changed & ~true)).sum() / n,
        "far": (pair * ~(changed | true)).sum() / n * (10.0 / n),
    }


def _fact_loss(seen: torch.Tensor, read: torch.Tensor, batch: Batch, atoms: Atoms) -> torch.Tensor:
    shown = atoms.targets([scene_atoms(scene) for scene in batch.scenes])
    said = atoms.targets([claim_atoms(claim) for claim in batch.claims])
    entropy = F.binary_cross_entropy_with_logits
    return entropy(seen, shown) + entropy(read, said)


def _mean_cosines(cosines: torch.Tensor, batch: Batch) -> str:
    """Of pictures with their own captions, and with changed ones."""
    cosines, n = cosines.detach(), len(batch.scenes)
    own = cosines[:, :n].diagonal()[batch.true[:, :n].diagonal()]
    beside = cosines[batch.changed & ~batch.true]
    return f"{own.mean():.3f}/{beside.mean():.3f}"


def main(argv: list[str] | None = None) -> None:
    """Train, or go on training, and write checkpoints."""
    args = make_parser().parse_args(argv)
    options.start(args)
    tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
    trainer = Trainer(build(tokenizer))
    rates = options.schedule(args, warmup=400)
    state = checkpoint.load(args.out)
    run = Run(trainer, _optimiser(trainer, args.rate), rates, args.out, state, ema_decay=0.998)
    atoms = Atoms({} if state is None else state["atoms"])
    images_seen = 0 if state is None else state["images"]
    codec: AutoencoderTiny | None = None
    for step in run.steps():
        if codec is None and step >= args.autoencoder_from and step % 100 == 0:
            saved = checkpoint.load(args.autoencoder)
            codec = None if saved is None else frozen(saved["averaged"])
        rng = seed_step(args.seed, step)
        batch = draw_batch(args.batch, args.negatives, args.malformed, rng)
        cosines, seen, read = _forward(trainer, batch, tokenizer, codec, rng)
        losses = _pair_losses(cosines, batch)
        facts = _fact_loss(seen, read, batch, atoms)
        run.descend(losses["right"] + losses["near"] + losses["far"] + 100.0 * facts, max_norm=5.0)
        images_seen += args.batch
        if run.due(100):
            parts = " ".join(f"{name}={loss.item():.3f}" for name, loss in losses.items())
            line = f"{parts} facts={facts.item():.4f} cos={_mean_cosines(cosines, batch)}"
            run.say(f"{line} codec={codec is not None}")
        if run.due(500) or run.done:
            averaged = run.averaged()
            model = {name: averaged[f"model.{name}"] for name in trainer.model.state_dict()}
            run.save(averaged=model, atoms=atoms.numbers, images=images_seen)


if __name__ == "__main__":
    main()
