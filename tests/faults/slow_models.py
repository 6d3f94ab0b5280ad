"""Fake models that take their time; what workers import, and so it is little."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from fake_models import FakeGenerator, fake_scorers
from synthvlm.generators.base import GeneratedImages
from synthvlm.recipe import Recipe
from synthvlm.stages.generation.models import Models

__all__ = [
    "WITNESS",
    "let_the_clock_jump",
    "load_models_and_let_the_clock_jump",
    "load_models_that_die_while_files_are_written",
    "load_slow_models",
]

PAUSE_S = 0.012
#: Environment variable: a file that is made by the process that dies.
WITNESS = "FAULTS_WITNESS"


class SlowGenerator(FakeGenerator):
    """Takes its time over each image."""

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        time.sleep(PAUSE_S * len(prompts))
        return super().generate(prompts, seeds)


def load_slow_models(recipe: Recipe) -> Models:
    """Slow fake models whatever the recipe names."""
    return Models(SlowGenerator(), fake_scorers())


def load_models_that_die_while_files_are_written(recipe: Recipe) -> Models:
    """Slow ones; the first process that has written a file, but not yet renamed it, dies."""
    fsync = os.fsync
    witness = Path(os.environ[WITNESS])

    def deadly(descriptor: int) -> None:
        fsync(descriptor)
        try:
            witness.touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = deadly  # type: ignore[assignment]
    return load_slow_models(recipe)


class JumpingClock:
    """The time of day, hours off, and every time by others."""

    def __init__(self) -> None:
        self._source, self._real = random.Random(7), time.time

    def __call__(self) -> float:
        return self._real() + self._source.uniform(-48, 48) * 3600


def let_the_clock_jump() -> None:
    """In this process, whose heart beats fast besides."""
    import synthvlm.run_folder.lock

    synthvlm.run_folder.lock.PERIOD_S = 0.05
    if not isinstance(time.time, JumpingClock):
        time.time = JumpingClock()


def load_models_and_let_the_clock_jump(recipe: Recipe) -> Models:
    """Slow ones, in a process whose clock jumps."""
    let_the_clock_jump()
    return load_slow_models(recipe)
