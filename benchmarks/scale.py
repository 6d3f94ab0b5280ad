"""What the stages cost as a data set grows: time, memory and disk at each of several sizes.

    python benchmarks/scale.py [--captions 10000 100000 1000000] [--folder /tmp]

Each stage runs in a process of its own, which resumes the run, so that its peak memory is its own.
No image is generated: see benchmarks/stub_models.py. Captions are made from templates. All pairs
are selected, which is the most that select, export and report can be given.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synthvlm import Recipe
    from synthvlm.stages.generation.models import Models

#: Name of a row, the stage up to which the run is brought, the formats of the export.
STEPS = (
    ("curate", "curate", "huggingface"),
    ("generate", "generate", "huggingface"),
    ("select", "select", "huggingface"),
    ("export, huggingface", "export", "huggingface"),
    ("export, llava", "export", "llava"),
    ("report", "report", "llava"),
    ("all again", "report", "llava"),
)

_SIZES = "tiny small large huge tall short wide narrow broken empty full heavy light round flat"
_LOOKS = (
    "red blue green yellow purple orange white black brown grey wooden metal plastic glass paper "
    "striped dotted shiny dusty muddy rusty painted carved woven frozen burnt polished faded "
    "golden silver pale dark bright old new ancient modern rustic elegant plain"
)
_THINGS = (
    "dog cat horse cow sheep goat rabbit bird duck goose owl parrot fish turtle frog lizard snake "
    "bear fox wolf deer elephant giraffe zebra lion tiger monkey car bus truck van tractor bicycle "
    "motorcycle scooter train tram boat ship canoe kayak plane helicopter kite balloon ball bat "
    "racket chair table bench sofa bed lamp clock mirror shelf cabinet carpet curtain pillow cup "
    "plate bowl spoon fork knife bottle jar kettle pan oven fridge toaster book newspaper letter "
    "map pencil brush camera phone laptop keyboard guitar violin piano drum trumpet hat scarf coat "
    "shoe boot glove umbrella backpack suitcase basket ladder hammer saw bucket shovel tent flag"
)
_DEEDS = (
    "stands lies leans rests waits hangs sits stays glows shines moves rolls turns swings falls "
    "floats drifts appears hides remains"
)
_RELATIONS = "beside behind above below near against under over before past"
_PLACES = (
    "garden kitchen street market harbour station library museum church castle farm field forest "
    "meadow desert beach river lake bridge tunnel tower square park playground stadium school "
    "office workshop garage attic cellar balcony terrace courtyard orchard vineyard mountain valley"
)
_TIMES = (
    "at dawn|at noon|at dusk|at night|in spring|in summer|in autumn|in winter|in heavy rain|"
    "in thick fog|in bright sun|under grey clouds|after a storm|during a parade|on a quiet day"
)


def write_captions(count: int, target: Path) -> None:
    """Captions of about 17 words, no two equal but by rare chance."""
    rng = Random(0)
    choices = [words.split() for words in (_SIZES, _LOOKS, _THINGS, _DEEDS, _RELATIONS, _PLACES)]
    sizes, looks, things, deeds, relations, places = choices
    times = _TIMES.split("|")
    pick = rng.choice
    with target.open("w", encoding="utf-8") as file:
        for _ in range(count):
            file.write(
                f"a {pick(sizes)} {pick(looks)} {pick(things)} {pick(deeds)} {pick(relations)} "
                f"the {pick(looks)} {pick(things)} and a {pick(sizes)} {pick(things)} "
                f"{pick(relations)} the {pick(looks)} {pick(places)} {pick(times)}\n"
            )


def do_step(stage: str, formats: str, captions: str, out: str, candidates: int) -> None:
    """Bring a run up to a stage; the last line of the output is what the process used."""
    from synthvlm import Pipeline, Recipe

    recipe = Recipe.load(
        captions=[captions],
        overrides=[
            f"generation.candidates={candidates}",
            "generation.dtype=float32",
            "run.device=cpu",
            "run.threads=1",
            "run.shard_size=1000",
            "run.batch_size=64",
            "selection.top_fraction=1.0",
            "report.preview_share=0.002",
            f"export.formats=[{formats}]",
        ],
    )
    pipeline = Pipeline(recipe, out)
    pipeline._load_models = load_models
    pipeline.run(stage)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps([used.ru_utime, used.ru_stime, used.ru_maxrss / 1024]))


def load_models(recipe: Recipe) -> Models:
    """The stubs; torch is loaded where models are, as in a real run."""
    from stub_models import load_stub_models

    return load_stub_models(recipe)


def footprint(folder: Path) -> tuple[int, int]:
    """Number and bytes of all files below a folder."""
    files = size = 0
    stack = [os.fspath(folder)]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    stack.append(entry.path)
                else:
                    files, size = files + 1, size + entry.stat().st_size
    return files, size


def measure(
    count: int, candidates: int, parent: Path | None, steps: Sequence[str]
) -> dict[str, dict[str, float]]:
    """What each of some steps takes with so many captions."""
    results = {}
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        captions, out = Path(folder) / "captions.txt", Path(folder) / "run"
        write_captions(count, captions)
        for name, stage, formats in (step for step in STEPS if step[0] in steps):
            command = [sys.executable, __file__, "--step", stage, formats]
            command += [str(captions), str(out), str(candidates)]
            began = time.monotonic()
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            seconds = time.monotonic() - began
            user, system, peak = json.loads(done.stdout.splitlines()[-1])
            files, size = footprint(out)
            results[name] = {
                "wall_s": seconds,
                "user_s": user,
                "system_s": system,
                "peak_mb": peak,
                "files": files,
                "disk_mb": size / 2**20,
            }
            print(row(count, name, results[name], {}), flush=True)
    return results


def row(count: int, name: str, one: dict[str, float], before: dict[str, float]) -> str:
    """A line of the table; the last two columns compare with the size before."""
    cells = [f"{count:,}", name]
    cells += [f"{one[key]:,.1f}" for key in ("wall_s", "user_s", "system_s")]
    cells += [f"{one[key]:,.0f}" for key in ("peak_mb", "files", "disk_mb")]
    if before:
        cells += [f"{one[key] / before[key]:.1f}" for key in ("user_s", "peak_mb")]
    return "| " + " | ".join(cells) + " |"


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--candidates", type=int, default=10)
    names = [step[0] for step in STEPS]
    parser.add_argument("--steps", nargs="+", choices=names, default=names)
    parser.add_argument("--folder", type=Path, help="where runs are made; they are removed again")
    parser.add_argument("--step", nargs=5, help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    if args.step is not None:
        stage, formats, captions, out, candidates = args.step
        do_step(stage, formats, captions, out, int(candidates))
        return
    results = {
        count: measure(count, args.candidates, args.folder, args.steps) for count in args.captions
    }
    header = "captions | step | wall s | user s | system s | peak MB | files | disk MB"
    print(f"\n| {header} | user x | peak x |\n|{' --- |' * 10}")
    earlier: dict[str, dict[str, float]] = {}
    for count, steps in results.items():
        for name, one in steps.items():
            cells = row(count, name, one, earlier.get(name, {}))
            print(cells if earlier else f"{cells} | |")
        earlier = steps


if __name__ == "__main__":
    main()
