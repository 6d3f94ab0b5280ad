"""Train the verifier: a small LLaVA that says whether a picture shows what is claimed.

Run it with `python -m experiments.tiny_models.verifier --steps 9000 --decay-from 6000 --rate 3e-4`,
and `--export src/synthvlm/tiny/weights/verifier` when it is done.

It starts from the shipped CLIP's vision tower and the shipped language model, and all of it is
trained. Candidates of the generator are labelled by the checker: see `verifier_pictures`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F

from experiments.tiny_models import checkpoint, export, options
from experiments.tiny_models.loop import Run, seed_step
from experiments.tiny_models.verifier_candidates import Candidates
from experiments.tiny_models.verifier_model import Answers, Trainer, build
from experiments.tiny_models.verifier_pictures import draw_pictures, join
from experiments.tiny_models.verifier_questions import (
    Asked,
    draw_questions,
    draw_told,
    draw_writings,
)

__all__ = ["main", "make_parser"]


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_training(parser, out="verifier.pt", steps=3000, batch=16, rate=1e-3, seed=6)
    parser.add_argument("--atomic", type=int, default=8, help="questions about single facts")
    parser.add_argument("--looking-until", type=int, default=1000, help="step of first questions")
    parser.add_argument("--candidates", type=int, default=20_000, help="of the generator: a pool")
    parser.add_argument("--candidates-from", type=int, default=4000, help="step; drawings so far")
    parser.add_argument("--telling-until", type=int, default=3000, help="step; in words so far")
    parser.add_argument("--words-fade", type=int, default=1000, help="steps; see `words_loss`")
    parser.add_argument("--export", type=Path, default=None)
    return parser


def _optimiser(trainer: Trainer, rate: float) -> torch.optim.Optimizer:
    """Parts with large inputs learn slowly, or each step moves every patch by a quarter."""
    parts = trainer.model.model
    shares = {
        parts.vision_tower: 1.0,
        parts.multi_modal_projector: 0.1,
        parts.language_model: 1.0,  # its embeddings are the output's, too
        trainer.faulty: 1.0,
    }
    groups = [{"params": [*part.parameters()], "share": share} for part, share in shares.items()]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)


def _step(
    trainer: Trainer,
    candidates: Candidates | None,
    args: argparse.Namespace,
    step: int,
    rng: Random,
) -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
    """The loss of a step, its parts, and of how many pictures it is.

    First the vision tower learns to look, then the language model to answer about pictures that
    are told in words, then both together.
    """
    losses: dict[str, torch.Tensor] = {}
    loss = torch.zeros(())
    if args.looking_until <= step < args.telling_until:
        count = 0
        told, asked = draw_told(2 * args.batch, args.atomic, rng)
        answers = trainer.answer_losses(told, asked)
    else:
        looking = step < args.looking_until
        count = args.batch * 2 if looking else args.batch
        pictures = draw_pictures(count, rng)
        if candidates is not None and step >= args.candidates_from:
            pictures = join(pictures, candidates.draw(count, rng))
            count *= 2
        look = trainer.look(pictures.pixels)
        faulty = torch.tensor(pictures.faulty, dtype=torch.float32)
        losses["faulty"] = F.binary_cross_entropy_with_logits(look.faulty, faulty)
        losses["words"] = trainer.words_loss(look, pictures.cells)
        share = max(0.1, min(1.0, 1 - (step - args.telling_until) / args.words_fade))
        loss = losses["faulty"] + share * losses["words"]
        if looking:
            return loss, losses, count
        asked = draw_questions(pictures, args.atomic, rng)
        answers = trainer.answer_losses(look, asked)
    losses["answers"] = answers.loss
    losses["writing"] = trainer.writing_loss(draw_writings(-(-args.batch // 8), rng))
    losses |= _shares_right(asked, answers)
    return loss + losses["answers"] + 0.5 * losses["writing"], losses, count


def _shares_right(asked: list[Asked], answers: Answers) -> dict[str, torch.Tensor]:
    """Of questions about pictures' own captions, and of others."""
    judged = [
        (n == 0, answer == "Yes") for questions in asked for n, (_, answer) in enumerate(questions)
    ]
    own, yes = torch.tensor(judged).T
    right = ((answers.margins > 0) == yes).float()
    return {
        "captions right": right[own].mean(),
        "others right": right[~own].mean(),
    }


def main(argv: list[str] | None = None) -> None:
    """Train, or go on training; write checkpoints; export."""
    args = make_parser().parse_args(argv)
    if args.export is not None:
        export.write_verifier(args.export, checkpoint.needed(args.out))
        return
    options.start(args)
    trainer = Trainer(build())
    trainer.train()
    optimiser = _optimiser(trainer, args.rate)
    state = checkpoint.load(args.out)
    images_seen = 0 if state is None else state["images"]
    rates = options.schedule(args, warmup=100)
    run = Run(trainer, optimiser, rates, args.out, state, ema_decay=0.99)
    candidates = None
    if args.steps > args.candidates_from:
        pool = args.out.with_name("verifier-candidates.npz")
        candidates = Candidates(pool, args.candidates, args.seed)
    recent: list[dict[str, float]] = []
    for step in run.steps():
        rng = seed_step(args.seed, step)
        loss, losses, count = _step(trainer, candidates, args, step, rng)
        run.descend(loss)
        images_seen += count
        recent.append({name: value.item() for name, value in losses.items()})
        if run.due(50):
            means = {name: sum(row[name] for row in recent) / len(recent) for name in recent[0]}
            run.say(" ".join(f"{name}={value:.4f}" for name, value in means.items()))
            recent.clear()
        if run.due(100) or run.done:
            run.save(images=images_seen)


if __name__ == "__main__":
    main()
