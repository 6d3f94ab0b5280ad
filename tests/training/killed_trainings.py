"""Run trainings that kill themselves: JSON of [values, out, what, when] in each argument.

Each is a process of its own (a fork, so that the libraries are imported once); it dies by SIGKILL
when it has done a step (``step``) or when a checkpoint is written but for its marker
(``checkpoint``).
"""

from __future__ import annotations

import json
import os
import signal
import sys

import synthvlm.training.trainer as trainer_module
from synthvlm.progress.display import SilentProgress
from synthvlm.training.recipe import TrainingRecipe
from synthvlm.training.train import train


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Killer(SilentProgress):
    def __init__(self, step: int) -> None:
        self._left, self._training = step, False

    def start(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        self._training = stage == "train"

    def advance(self, amount: int) -> None:
        if self._training:
            self._left -= 1
            if not self._left:
                die()


def run(values: dict, out: str, what: str, when: int) -> None:
    if what == "checkpoint":
        original = trainer_module.mark_complete

        def mark_complete(folder: str) -> None:
            if folder.endswith(f"-{when}"):
                die()
            original(folder)

        trainer_module.mark_complete = mark_complete
    train(
        TrainingRecipe.from_values(values), out, progress=Killer(when if what == "step" else 1000)
    )


for argument in sys.argv[1:]:
    child = os.fork()
    if not child:
        run(*json.loads(argument))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else "finished")
