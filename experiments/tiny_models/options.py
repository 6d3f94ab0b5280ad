"""The options that several commands have, and where they find each other's files."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from experiments.tiny_models.loop import Schedule

__all__ = ["FOLDER", "add_files", "add_training", "schedule", "start"]

FOLDER = Path(".training")


def add_files(parser: argparse.ArgumentParser, *names: str) -> None:
    """An option for each file or folder that another command writes."""
    for name in names:
        path = FOLDER / name
        parser.add_argument(f"--{path.stem}", type=Path, default=path)


def add_training(
    parser: argparse.ArgumentParser,
    *,
    out: str,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
    decay_from: int | None = None,
) -> None:
    """The options of every training command, with this one's defaults."""
    parser.add_argument("--out", type=Path, default=FOLDER / out)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--decay-from", type=int, default=decay_from)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--rate", type=float, default=rate)
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument("--threads", type=int, default=1)


def start(args: argparse.Namespace) -> None:
    """Set torch's threads, and the seed that the first weights come from."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)


def schedule(args: argparse.Namespace, *, warmup: int) -> Schedule:
    """The learning rates that the options ask for."""
    return Schedule(args.steps, args.rate, warmup, args.decay_from)
