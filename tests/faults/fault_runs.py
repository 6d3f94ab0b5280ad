"""Whole runs in processes of their own, for faults to strike, and what must come of them.

The models are fake and slow: most of a run is drawing, so that what happens at a random moment
happens in the middle of it. The driver is forked off a process that holds the libraries; workers
are what they are in real life.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path

from slow_models import load_slow_models

import commands  # noqa: F401  the server of forks holds what it names
from fake_models import run_with
from synthvlm.engines import make_engine
from synthvlm.errors import SynthVLMError
from synthvlm.recipe import Recipe
from synthvlm.stages.generation.models import Models
from test_kill import assert_same_run, write_captions

__all__ = ["Driver", "Lab", "Moment", "one_line"]

SETTINGS = [
    "generation.model=org/fake",
    "scoring.clip.model=org/fake",
    "generation.candidates=2",
    "report.preview_share=0.5",
    "export.images_per_folder=8",
    "run.shard_size=4",
    "run.threads=1",
]


@dataclass(frozen=True)
class Driver:
    """A run in a process of its own."""

    process: BaseProcess
    log: Path

    def end(self, seconds: float = 300) -> int:
        """Wait for its end; its exit status."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, "the run hangs"
        return self.process.exitcode

    def succeeds(self) -> None:
        """Wait for its end, which must be a good one."""
        assert self.end() == 0, self.errors

    def kill(self) -> bool:
        """SIGKILL; whether it was in time."""
        self.process.kill()
        return self.end() == -signal.SIGKILL

    @property
    def errors(self) -> str:
        """What it wrote to stderr."""
        return self.log.with_suffix(".err").read_text("utf-8")


class Lab:
    """Captions, the run that nothing disturbed, and folders for others."""

    def __init__(self, folder: Path, captions: int) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.captions = write_captions(folder / "captions.txt", captions)
        self.undisturbed = folder / "undisturbed"
        self._numbers = count()
        self.start(self.undisturbed, workers=1).succeeds()

    def new(self, name: str) -> Path:
        """The name of a folder that is not there yet."""
        return self.folder / f"{name}-{next(self._numbers)}"

    def start(
        self,
        out: str | Path,
        *,
        engine: str = "local",
        workers: int = 2,
        before: Callable[[], None] | None = None,
        load_models: Callable[[Recipe], Models] = load_slow_models,
    ) -> Driver:
        """Start a run, or resume it; ``before`` happens in the driver first.

        The driver gets this process's environment as it is now.
        """
        log = self.new("log")
        arguments = (self.captions, str(out), engine, workers, before, load_models, log)
        target = (dict(os.environ), *arguments)
        process = multiprocessing.get_context("forkserver").Process(target=drive, args=target)
        process.start()
        return Driver(process, log)

    def assert_undisturbed(self, out: Path) -> None:
        """The data set byte for byte, equal tables, no caption lost or doubled, no other file."""
        assert_same_run(out, self.undisturbed)


def drive(
    environment: dict[str, str],
    captions: Path,
    out: str,
    engine: str,
    workers: int,
    before: Callable[[], None] | None,
    load_models: Callable[[Recipe], Models],
    log: Path,
) -> None:
    """The life of a driver."""
    os.environ.clear()
    os.environ.update(environment)
    for stream, suffix in ((1, ".out"), (2, ".err")):
        target = os.open(log.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, stream)
        os.close(target)
    if before is not None:
        before()
    recipe = Recipe.load("tiny", captions=[captions], overrides=SETTINGS)
    try:
        run_with(recipe, out, load_models, engine=make_engine(engine, workers))
    except SynthVLMError as error:
        sys.exit(f"error: {error}")


def one_line(driver: Driver) -> str:
    """The one line of a run that was refused or stopped."""
    assert driver.end() == 1, driver.errors
    assert driver.errors.startswith("error: ")
    assert driver.errors.count("\n") == 1, driver.errors
    return driver.errors.removeprefix("error: ")[:-1]


@dataclass(frozen=True)
class Moment:
    """A moment of a run: so many more commits than there are, and so many seconds after that."""

    commits: int
    seconds: float

    @classmethod
    def any(cls, source: random.Random) -> Moment:
        """Of a whole run: seldom by the clock alone, for then most fall into the start."""
        if source.random() < 0.25:
            return cls(0, source.uniform(0, 4))
        return cls(source.randint(1, 20), source.uniform(0, 0.2))

    @classmethod
    def of_generating(cls, source: random.Random) -> Moment:
        """While images are generated, if it is awaited in ``done/generate``."""
        return cls(source.randint(1, 4), source.uniform(0, 0.2))

    def comes(self, driver: Driver, markers: Path) -> bool:
        """Wait for it; False: the run was over before.

        Args:
            driver: The run.
            markers: Where commits are counted.
        """
        wanted = commits(markers) + self.commits
        while commits(markers) < wanted:
            driver.process.join(0.01)
            if driver.process.exitcode is not None:
                return False
        driver.process.join(self.seconds)
        return driver.process.exitcode is None


def commits(markers: Path) -> int:
    """Done-markers below a folder."""
    return sum(1 for path in markers.rglob("*.json") if not path.name.startswith("."))
