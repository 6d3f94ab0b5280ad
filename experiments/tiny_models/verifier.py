"""Train the verifier: a small LLaVA that says whether a picture shows what is claimed.

Run it with `python -m experiments.tiny_models.verifier --steps 2000 --decay-from 1200`, and
`--export src/synthvlm/tiny/weights/verifier` when it is done.

It starts from the shipped CLIP's vision tower and the shipped language model, and all of it is
trained. The checker has no part in it: see `verifier_pictures`.
"""

from __future__ import annotations

import argparse
from collections import deque
from pathlib import Path

import torch
import torch.nn.functional as F

from experiments.tiny_models import checkpoint, export, options
from experiments.tiny_models.loop import Run, seed_step
from experiments.tiny_models.verifier_model import Trainer, build
from experiments.tiny_models.verifier_pictures import Makers, draw_pictures
from experiments.tiny_models.verifier_questions import draw_questions, draw_writings

__all__ = ["main", "make_parser"]


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_training(parser, out="verifier.pt", steps=2000, batch=32, rate=6e-4, seed=6)
    parser.add_argument("--atomic", type=int, default=4, help="questions about single facts")
    parser.add_argument("--export", type=Path, default=None)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Train, or go on training; write checkpoints; export."""
    args = make_parser().parse_args(argv)
    if args.export is not None:
        export.write_verifier(args.export, checkpoint.needed(args.out))
        return
    options.start(args)
    trainer = Trainer(build())
    trainer.train()
    optimiser = torch.optim.AdamW(
        trainer.parameters(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    state = checkpoint.load(args.out)
    images_seen = 0 if state is None else state["images"]
    rates = options.schedule(args, warmup=100)
    run = Run(trainer, optimiser, rates, args.out, state, ema_decay=0.99)
    makers = Makers()
    told: deque[tuple[float, ...]] = deque(maxlen=50)
    for step in run.steps():
        rng = seed_step(args.seed, step)
        pictures = draw_pictures(args.batch, makers, rng)
        asked = draw_questions(pictures, args.atomic, rng)
        answering, margins, guessed = trainer.answer_losses(pictures.pixels, asked)
        writing = trainer.writing_loss(draw_writings(-(-args.batch // 8), rng))
        errors = F.mse_loss(guessed, pictures.errors)
        run.descend(answering + 0.5 * writing + 10.0 * errors)
        images_seen += args.batch
        yes = torch.tensor([yes for questions in asked for _, yes in questions])
        own = torch.tensor([n == 0 for questions in asked for n, _ in enumerate(questions)])
        right = ((margins > 0) == yes).float()
        losses = (answering.item(), writing.item(), errors.item())
        told.append((*losses, right[own].mean().item(), right[~own].mean().item()))
        if run.due(50):
            means = [sum(column) / len(told) for column in zip(*told, strict=True)]
            names = ("answers", "writing", "errors", "captions right", "others right")
            run.say(" ".join(f"{n}={v:.4f}" for n, v in zip(names, means, strict=True)))
        if run.due(200) or run.done:
            run.save(images=images_seen)


if __name__ == "__main__":
    main()
