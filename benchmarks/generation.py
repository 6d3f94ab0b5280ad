"""Generation side by side: SynthVLM, two loops that do the same by hand, and the denoiser alone.

    python benchmarks/generation.py [--captions 48] [--candidates 4] [--batch-size 16]

From curated captions to selected pairs, with the same models, steps, seeds and scores. Ours is
`Pipeline.run("select")` in a folder where `run("curate")` is done. The authors' loop is
`official_loop.py`, which says what it is faithful to. `hand_written_loop.py` has the best loop that
a user would write by hand, with our batch size, and the denoiser alone: as many forward passes of
the same size, with the same arguments, and nothing else, which is the limit. After a warm-up of all
they take turns, and take turns at going first. The figures leave loading out, which a large data
set does once: the calls that load models are timed on all sides and subtracted. The ratio with
loading stands beside.

The embedded models run on the CPU; `gpu.py` does the same with larger ones on a GPU. SynthVLM
scores and encodes while it generates, and so uses more than one core even with one thread: compare
the processor seconds, which other load on the machine touches least. With more threads than idle
cores, waiting threads spoil any side.

`--set` changes the recipe of all sides, e.g. `--set generation.image.format=jpeg`: the published
code names its files .jpg. The default, PNG, is ours.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from diffusers.utils import logging
from hand_written_loop import SUFFIXES, DenoiserAlone, HandWrittenLoop
from loading_clock import Times, timed
from official_loop import Entry, OfficialLoop
from tiny_choosing import held_out_captions

from synthvlm import Pipeline, Recipe
from synthvlm.data import candidate_seed
from synthvlm.tiny import clip_path, pipeline_path

CAPTION_SEED = 79
WARM_UP_CAPTIONS = 2
#: The sides, in the order of the table.
OURS, BY_HAND, OFFICIAL, LIMIT = "SynthVLM", "loop by hand", "authors' loop", "denoiser alone"
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of one side.

    Attributes:
        times: How long it took.
        scores: CLIPScore and SSIMScore of each candidate.
        winners: The best candidate of each caption.
        selected: The captions of the selected pairs.
    """

    times: Times
    scores: Mapping[Key, tuple[float, float]] = field(default_factory=dict)
    winners: frozenset[Key] = frozenset()
    selected: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Bench:
    """What all sides work with, and on."""

    recipe: Recipe
    captions: list[str]
    pipeline: Path
    clip: Path
    device: str
    loaders: int
    batch_size: int
    folder: Path

    def ours(self, name: str, count: int) -> Turn:
        """SynthVLM on the first captions."""
        out = self.folder / f"ours-{name}"
        run = Pipeline(self.recipe.changed(limit=count), out)
        kept = run.run("curate").summaries[-1].counts["kept"]
        if kept != count:
            raise SystemExit(f"curation kept {kept} of {count} captions: all were meant to pass")
        times = timed(lambda: run.run("select"))
        rows = read(out.glob("candidates/*.parquet"))
        failed = [row["problem"] for row in rows if row["status"] != "ok"]
        if failed:
            raise SystemExit(f"{len(failed)} candidates failed: {failed[0]}")
        for row in rows:
            assert row["seed"] == self._seed(row["caption_id"], row["index"])
        return Turn(
            times,
            {(r["caption_id"], r["index"]): (r["clip_score"], r["ssim_score"]) for r in rows},
            frozenset((row["caption_id"], row["index"]) for row in rows if row["chosen"]),
            frozenset(row["caption_id"] for row in read([out / "selection.parquet"])),
        )

    def official(self, name: str, count: int) -> Turn:
        """The published code's loop on the first captions."""
        return self._loop(
            lambda: OfficialLoop(
                self.recipe, self.pipeline, self.clip, device=self.device, loaders=self.loaders
            ),
            f"official-{name}",
            count,
        )

    def by_hand(self, name: str, count: int) -> Turn:
        """The loop written by hand on the first captions."""
        return self._loop(
            lambda: HandWrittenLoop(
                self.recipe,
                self.pipeline,
                self.clip,
                device=self.device,
                batch_size=self.batch_size,
            ),
            f"by-hand-{name}",
            count,
        )

    def denoiser(self, name: str, count: int) -> Turn:
        """The denoiser alone, for as many images as the first captions have."""
        images = count * self.recipe.generation.candidates
        alone = DenoiserAlone(
            self.recipe,
            self.pipeline,
            device=self.device,
            batch_size=self.batch_size,
            images=images,
        )
        return Turn(timed(alone.run))

    def _loop(
        self, load: Callable[[], OfficialLoop | HandWrittenLoop], name: str, count: int
    ) -> Turn:
        settings = self.recipe.generation
        entries = [
            Entry(
                id,
                k,
                caption,
                self._seed(id, k),
                f"part_{k}/{id}.{SUFFIXES[settings.image.format]}",
            )
            for id, caption in zip(ids(count), self.captions[:count], strict=True)
            for k in range(settings.candidates)
        ]
        results: list[Any] = []
        times = timed(lambda: results.extend(load().run(entries, self.folder / name)))
        scores, winners, selected = results
        return Turn(
            times,
            {(s.caption_id, s.index): (s.clip_score, s.ssim_score) for s in scores},
            frozenset((score.caption_id, score.index) for score in winners),
            frozenset(score.caption_id for score in selected),
        )

    def _seed(self, id: str, index: int) -> int:
        return candidate_seed(self.recipe.seed, id, index)


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--captions", type=int, default=48)
    parser.add_argument("--candidates", type=int, default=4, help="of each caption (default 4)")
    parser.add_argument(
        "--batch-size", type=int, default=16, help="of all but the authors' loop (default 16)"
    )
    parser.add_argument("--turns", type=int, default=3, help="of each side (default 3)")
    parser.add_argument("--threads", type=int, default=1, help="of each side (default 1)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures")
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = make_parser().parse_args(argv)
    logging.set_verbosity_error()
    machine = describe_machine(arguments.threads)
    print(machine)
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        bench = make_bench(
            Path(name),
            arguments.captions,
            pipeline_path(),
            clip_path(),
            device="cpu",
            batch_size=arguments.batch_size,
            changes=[
                "generation.dtype=float32",
                f"generation.candidates={arguments.candidates}",
                f"run.threads={arguments.threads}",
                *arguments.set,
            ],
        )
        figures = report(bench, take_turns(bench, arguments.turns))
    if arguments.json:
        given = {name: str(value) for name, value in vars(arguments).items()}
        result = {"machine": machine, "arguments": given, **figures}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def make_bench(
    folder: Path,
    count: int,
    pipeline: Path,
    clip: Path,
    *,
    device: str,
    batch_size: int,
    changes: Sequence[str],
) -> Bench:
    """The bench of some captions, models and changes of the recipe `tiny`."""
    captions = held_out_captions(count, CAPTION_SEED)[0]
    file = folder / "captions.jsonl"
    with file.open("w", encoding="utf-8") as stream:
        for id, caption in zip(ids(count), captions, strict=True):
            stream.write(json.dumps({"id": id, "caption": caption}) + "\n")
    fixed = [
        f"generation.model={pipeline}",
        f"scoring.clip.model={clip}",
        f"run.device={device}",
        f"run.batch_size={batch_size}",
    ]
    recipe = Recipe.load("tiny", captions=[file], overrides=[*fixed, *changes])
    settings = recipe.generation
    if settings.refiner or settings.adaptive or settings.negative_prompt:
        raise SystemExit("the loops know no refiner, adaptive or negative_prompt")
    # Processes that read images cost more than they save where images are small.
    loaders = 0 if device == "cpu" else 8
    return Bench(recipe, captions, pipeline, clip, device, loaders, batch_size, folder)


def take_turns(bench: Bench, count: int) -> dict[str, list[Turn]]:
    """The turns of each side."""
    captions = len(bench.captions)
    calls = {
        OURS: bench.ours,
        BY_HAND: bench.by_hand,
        OFFICIAL: bench.official,
        LIMIT: bench.denoiser,
    }
    for call in calls.values():
        call("warm-up", min(WARM_UP_CAPTIONS, captions))
    turns: dict[str, list[Turn]] = {name: [] for name in calls}
    for number in range(count):
        names = list(calls)
        first = number % len(names)
        for name in names[first:] + names[:first]:
            turns[name].append(calls[name](str(number), captions))
    return turns


def report(bench: Bench, sides: Mapping[str, Sequence[Turn]]) -> dict[str, Any]:
    """Print rates, ratios, and whether all sides agree."""
    settings, captions, ours = bench.recipe.generation, len(bench.captions), sides[OURS]
    images, selected = captions * settings.candidates, len(ours[-1].selected)
    print(
        f"{captions} captions, {settings.candidates} candidates each, {settings.steps} steps, "
        f"{settings.width}x{settings.height}, batches of {bench.batch_size}, "
        f"{settings.image.format}; {selected} pairs selected"
    )
    print("\n| | seconds | processor s | loading, s | images/s | selected pairs/s |")
    print("|---|---|---|---|---|---|")
    for name, turns in sides.items():
        work = statistics.median(turn.times.work_s for turn in turns)
        loading = statistics.median(turn.times.loading_s for turn in turns)
        processor = statistics.median(turn.times.processor_s for turn in turns)
        print(f"| {name} | {work:.2f} | {processor:.2f} | {loading:.2f} ", end="")
        print(f"| {images / work:.2f} | {selected / work:.2f} |" if name != LIMIT else "| | |")
    print(f"\nmedians of {len(ours)} turns, the range of turns in brackets")
    ratios = {}
    for name in (BY_HAND, OFFICIAL):
        print(f"{name} / SynthVLM:")
        ratios[name] = _ratios(sides[name], ours)
    print("share of the limit (denoiser alone / SynthVLM):")
    ratios[LIMIT] = _ratios(sides[LIMIT], ours)
    agreement = {name: compare(ours[-1], sides[name][-1]) for name in (BY_HAND, OFFICIAL)}
    for name, values in agreement.items():
        print(f"{name}: " + ", ".join(f"{what}: {value:.2g}" for what, value in values.items()))
    turns_of = {name: [asdict(turn.times) for turn in turns] for name, turns in sides.items()}
    counts = {"images": images, "selected": selected}
    return {**counts, "turns": turns_of, "ratios": ratios, "agreement": agreement}


def _ratios(theirs: Sequence[Turn], ours: Sequence[Turn]) -> dict[str, list[float]]:
    """Print how many times as long as ours a side's turns took, by three clocks."""
    pairs = [(their.times, our.times) for their, our in zip(theirs, ours, strict=True)]
    ratios = {
        "seconds": [their.work_s / our.work_s for their, our in pairs],
        "processor seconds": [their.processor_s / our.processor_s for their, our in pairs],
        "seconds with loading": [their.seconds / our.seconds for their, our in pairs],
    }
    for name, values in ratios.items():
        middle = statistics.median(values)
        print(f"- {name}: {middle:.2f} ({min(values):.2f} to {max(values):.2f})")
    return ratios


def compare(ours: Turn, theirs: Turn) -> dict[str, float]:
    """How far the two sides' results are apart."""
    assert ours.scores.keys() == theirs.scores.keys()
    gaps = [
        abs(one - other)
        for key, scores in ours.scores.items()
        for one, other in zip(scores, theirs.scores[key], strict=True)
    ]
    return {
        "largest difference of a score": max(gaps),
        "winners that differ": len(ours.winners - theirs.winners),
        "selected captions that differ": len(ours.selected - theirs.selected),
    }


def ids(count: int) -> list[str]:
    return [f"caption-{number}" for number in range(count)]


def read(files: Iterable[Path]) -> list[dict[str, Any]]:
    return [row for file in sorted(files) for row in pq.read_table(file).to_pylist()]


def describe_machine(threads: int) -> str:
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.split(": ")[1] for x in lines if x.startswith("model name")), model)
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f"load {os.getloadavg()[0]:.1f}, " if hasattr(os, "getloadavg") else ""
    return (
        f"machine: {gpu}{model}, {usable} of {os.cpu_count()} cores, {threads} threads, {load}"
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}"
    )


if __name__ == "__main__":
    sys.exit(main())
