"""What engines cost: their start, and each shard, against the length of shards.

    python benchmarks/engines.py [--captions 4000] [--folder /tmp]

The same captions are brought through `generate` by each engine with one and two workers, in shards
of several sizes, with models that cost next to nothing (benchmarks/stub_models.py). Start is the
time from the first ask to the first shard that is done, less that of one process; the cost of a
shard is the slope over the number of shards. Wall times beside each other in one run.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from stub_models import load_stub_models

from synthvlm import Pipeline, Recipe
from synthvlm.engines.base import Engine, LocalEngine, Update
from synthvlm.engines.processes import ProcessEngine
from synthvlm.engines.ray_actors import RayEngine

ENGINES: dict[str, Callable[[], Engine]] = {
    "in this process": LocalEngine,
    "processes, 1": partial(ProcessEngine, 1),
    "processes, 2": partial(ProcessEngine, 2),
    "ray, 1": partial(RayEngine, 1),
    "ray, 2": partial(RayEngine, 2),
}


class Timed:
    """An engine, and when it began, had its first result, and ended."""

    def __init__(self, engine: Engine) -> None:
        """Wrap it."""
        self._engine = engine
        self.began = self.first = self.ended = 0.0

    @property
    def workers(self) -> int:
        """Those of the engine."""
        return self._engine.workers

    def gpus(self) -> int:
        """None here."""
        return 0

    def run(self, *arguments: object) -> object:
        """Pass on, and look at the clock."""
        self.began = time.perf_counter()
        for update in self._engine.run(*arguments):  # type: ignore[arg-type]
            if not self.first and hasattr(update, "counts"):
                self.first = time.perf_counter()
            yield _passed(update)
        self.ended = time.perf_counter()


def _passed(update: Update) -> Update:
    return update


def measure(engine: Engine, captions: Path, size: int, out: Path) -> tuple[float, float]:
    """Seconds to the first shard, and from there to the end."""
    recipe = Recipe.load(
        "tiny",
        captions=[captions],
        overrides=[f"run.shard_size={size}", "run.threads=1", "generation.candidates=1"],
    )
    timed = Timed(engine)
    pipeline = Pipeline(recipe, out, engine=timed)  # type: ignore[arg-type]
    pipeline._load_models = load_stub_models
    pipeline.run("curate")
    pipeline.run("generate")
    return timed.first - timed.began, timed.ended - timed.first


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, default=4000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 250, 50, 10])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--folder")
    return parser


def main(argv: list[str] | None = None) -> None:
    arguments = make_parser().parse_args(argv)
    here = str(Path(__file__).resolve().parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    os.environ["RAY_DEDUP_LOGS"] = "1"
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        captions = Path(folder) / "captions.txt"
        captions.write_text(
            "".join(
                f"a small grey barn with {n} windows on a hill\n" for n in range(arguments.captions)
            )
        )
        print(
            "| engine | first shard, s | rest, s, at "
            + " / ".join(f"{arguments.captions // n} shards of {n}" for n in arguments.sizes)
            + " | ms per shard |"
        )
        print("|---|---|---|---|")
        for name in arguments.engines:
            engine, firsts, rests = ENGINES[name](), [], []
            for size in arguments.sizes:
                out = Path(folder) / f"{name.replace(', ', '-')}-{size}".replace(" ", "-")
                first, rest = measure(engine, captions, size, out)
                firsts.append(first)
                rests.append(rest)
            counts = [arguments.captions / size for size in arguments.sizes]
            slope = float(np.polyfit(counts, rests, 1)[0])
            print(
                f"| {name} | {min(firsts):.2f} | "
                + " / ".join(f"{rest:.2f}" for rest in rests)
                + f" | {1000 * slope:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
