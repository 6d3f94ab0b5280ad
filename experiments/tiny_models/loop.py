"""What all training loops share: seeds, learning rates, a running average, resuming.

A training command's loop is::

    for step in run.steps():
        rng = seed_step(seed, step)
        ...  # draw a batch by `rng`, compute the loss
        run.descend(loss)
        if run.due(100):
            run.say(...)
        if run.due(500) or run.done:
            run.save()
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

from experiments.tiny_models import checkpoint

__all__ = ["Ema", "Run", "Schedule", "seed_step"]


def seed_step(seed: int, step: int) -> random.Random:
    """Seed torch for one step and return the step's own generator.

    Seeding every step by its number makes a resumed run draw what an unbroken one would.
    """
    rng = random.Random(seed * 1_000_003 + step)
    torch.manual_seed(rng.getrandbits(60))
    np.random.seed(rng.getrandbits(31))
    return rng


@dataclass(frozen=True, slots=True)
class Schedule:
    """Linear warm-up, a plateau, and a linear decay to 2 % between `decay_from` and `steps`."""

    steps: int
    peak: float
    warmup: int
    decay_from: int | None

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        rate = self.peak * min(1.0, (step + 1) / self.warmup)
        if self.decay_from is not None and step >= self.decay_from:
            rate *= max(0.02, (self.steps - step) / max(1, self.steps - self.decay_from))
        return rate


class Ema:
    """Running average of a module's parameters, with a short memory at first.

    Attributes:
        decay: Share of the average that a late step keeps.
        values: The averaged parameters by name.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Start from the module's present parameters."""
        self.decay = decay
        self.values = {k: v.detach().clone() for k, v in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards the module's parameters."""
        decay = min(self.decay, (1 + step) / (10 + step))
        named = dict(module.named_parameters())
        values = [self.values[k] for k in named]
        torch._foreach_lerp_(values, [p.detach() for p in named.values()], 1 - decay)

    def state_dict(self, module: nn.Module) -> dict[str, torch.Tensor]:
        """The module's state with the averaged parameters in it."""
        return {**module.state_dict(), **self.values}


class Run:
    """A training run, which goes on where its checkpoint was written.

    Attributes:
        model: What is trained.
        step: Steps done.
    """

    def __init__(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        schedule: Schedule,
        out: Path,
        state: dict[str, Any] | None,
        *,
        ema_decay: float,
    ) -> None:
        """Take up the checkpoint, if there is one.

        Args:
            model: With the weights to start from where there is no checkpoint.
            optimiser: Of the model's parameters; a group's "share" is of the learning rate.
            schedule: Its learning rates.
            out: Where checkpoints are written.
            state: The checkpoint that is there.
            ema_decay: Of the running average.
        """
        self.model, self.step = model, 0
        self._optimiser, self._schedule, self._out = optimiser, schedule, out
        self._ema = Ema(model, ema_decay)
        self._cpu_before = 0.0
        if state is not None:
            model.load_state_dict(state["model"])
            if "optimiser" in state:  # not where shipped weights were restored
                optimiser.load_state_dict(state["optimiser"])
            self._ema.values, self.step = state["ema"], state["step"]
            self._cpu_before = state["cpu_seconds"]
        self._began, self._cpu = time.time(), time.process_time()

    def steps(self) -> Iterator[int]:
        """The numbers of the steps still to do; `descend` counts them."""
        while not self.done:
            yield self.step

    @property
    def done(self) -> bool:
        """Whether that was the last step."""
        return self.step >= self._schedule.steps

    def due(self, every: int) -> bool:
        """Whether so many steps have been done since this was last true."""
        return self.step % every == 0

    def descend(self, loss: torch.Tensor, *, max_norm: float = 1.0, ranks: int = 1) -> None:
        """One step of the optimiser and of the running average.

        Args:
            loss: Of this step's batch.
            max_norm: To which gradients are clipped.
            ranks: Processes over which gradients are averaged first.
        """
        for group in self._optimiser.param_groups:
            group["lr"] = self._schedule.rate(self.step) * group.get("share", 1.0)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if ranks > 1:
            _average_gradients(self.model, ranks)
        nn.utils.clip_grad_norm_(self.model.parameters(), max_norm)
        self._optimiser.step()
        self._ema.update(self.model, self.step)
        self.step += 1

    def say(self, text: str) -> None:
        """A line of the log."""
        print(f"{self.step} {text} {time.time() - self._began:.0f}s", flush=True)

    def averaged(self) -> dict[str, torch.Tensor]:
        """The model's state with the running averages of its parameters."""
        return self._ema.state_dict(self.model)

    def save(self, **more: Any) -> None:
        """Write a checkpoint; `more` is what the command keeps in it beside."""
        state = {
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "ema": self._ema.values,
            "averaged": self.averaged(),
            "step": self.step,
            "cpu_seconds": self._cpu_before + time.process_time() - self._cpu,
        }
        checkpoint.save(self._out, {**state, **more})


def _average_gradients(module: nn.Module, ranks: int) -> None:
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= ranks
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
