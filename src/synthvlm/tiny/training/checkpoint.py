"""Checkpoints that survive a kill at any moment, and what all training commands share."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["Ema", "learning_rate", "load", "save", "seed_step"]


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the file at `path` is whole at every moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load(path: Path) -> dict[str, Any] | None:
    """The checkpoint at `path`, or None if there is none yet."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    return state


def seed_step(seed: int, step: int) -> random.Random:
    """Seed torch for one step and return the step's own generator.

    Seeding every step by its number makes a resumed run draw what an unbroken one would.
    """
    rng = random.Random(seed * 1_000_003 + step)
    torch.manual_seed(rng.getrandbits(60))
    np.random.seed(rng.getrandbits(31))
    return rng


def learning_rate(
    step: int, *, peak: float, warmup: int, steps: int, decay_from: int | None
) -> float:
    """Linear warm-up, a plateau, and a linear decay to 2 % between `decay_from` and `steps`."""
    rate = peak * min(1.0, (step + 1) / warmup)
    if decay_from is not None and step >= decay_from:
        rate *= max(0.02, (steps - step) / max(1, steps - decay_from))
    return rate


class Ema:
    """Running average of a module's parameters, with a short memory at first.

    Attributes:
        decay: Share of the average that a late step keeps.
        values: The averaged parameters by name.
    """

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        """Start from the module's present parameters."""
        self.decay = decay
        self.values = {k: v.detach().clone() for k, v in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module, step: int) -> None:
        """Move the average towards the module's parameters."""
        decay = min(self.decay, (1 + step) / (10 + step))
        named = dict(module.named_parameters())
        values = [self.values[k] for k in named]
        torch._foreach_lerp_(values, [p.detach() for p in named.values()], 1 - decay)

    def state_dict(self, module: torch.nn.Module) -> dict[str, torch.Tensor]:
        """The module's state with the averaged parameters in it."""
        return {**module.state_dict(), **self.values}
