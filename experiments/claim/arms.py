"""Build the data of all arms: ``python -m experiments.claim.arms --out .claim``.

Each arm is a LLaVA JSON file with a folder of images:

- ``a``: the web, true drawings with noisy captions;
- ``b``: the web's captions through the pipeline, 18 % of its size;
- ``c``: as many pairs, captions and candidates taken at random from those that B chose among;
- ``d``: as many, drawn from the web;
- ``e``: the web's pictures, captioned by a small captioning model;
- ``b-no-ssim``: B with an SSIM weight of 0;
- ``b-uncurated``: B with curation off, from as many captions as B's curation kept;
- ``b-quotas``: the best of B's pairs among those whose captions name the same kinds of things.

What is there is kept: a killed command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq

from experiments.claim.captioner import caption_web
from experiments.claim.web import PAIRS, make_web
from synthvlm import Pipeline, Recipe
from synthvlm.tiny.captions import parse

HERE = Path(__file__).parent
#: In the order in which they are built.
ARMS = ("a", "b", "c", "d", "e", "b-no-ssim", "b-uncurated", "b-quotas")
CURATION_OFF = [
    "curation.alignment=null",
    "curation.deduplicate=false",
    *(
        f"curation.rules.{rule}=null"
        for rule in (
            "alnum_ratio",
            "char_rep_ratio",
            "flagged_words_ratio",
            "special_char_ratio",
            "word_rep_ratio",
        )
    ),
]


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(".claim"))
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS)
    parser.add_argument("--noise", type=float, default=1.0, help="factor of the noise's shares")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    out: Path = args.out.resolve()
    web, top = out / "a", round(0.18 * args.pairs)

    def pipeline(folder: Path, *overrides: str) -> None:
        recipe = Recipe.load(
            str(HERE / "pipeline.yaml"),
            overrides=[
                f"sources.0.path={web / 'captions.jsonl'}",
                f"sources.0.image_root={web / 'images'}",
                f"selection.top_n={top}",
                *overrides,
            ],
        )
        Pipeline(recipe, str(folder)).run()

    def build_c() -> None:
        shutil.copytree(out / "b", out / "c-all")
        pipeline(out / "c-all", "generation.candidates=1", "selection.top_n=null")
        sample(out / "c-all" / "dataset", out / "c", top, seed=3)

    def build_no_ssim() -> None:
        shutil.copytree(out / "b", out / "b-no-ssim")
        pipeline(out / "b-no-ssim", "scoring.ssim.weight=0.0")

    def build_quotas() -> None:
        shutil.copytree(out / "b", out / "b-all")
        pipeline(out / "b-all", "selection.top_n=null")
        select_by_quotas(out / "b-all", out / "b-quotas", top)

    steps: dict[str, Callable[[], None]] = {
        "a": lambda: make_web(web, pairs=args.pairs, noise=args.noise),
        "b": lambda: pipeline(out / "b"),
        "c": build_c,
        "d": lambda: sample(web, out / "d", top, seed=4),
        "e": lambda: caption_web(web, out / "e"),
        "b-no-ssim": build_no_ssim,
        "b-uncurated": lambda: pipeline(
            out / "b-uncurated", *CURATION_OFF, f"limit={kept_captions(out / 'b')}"
        ),
        "b-quotas": build_quotas,
    }
    for name in args.arms:
        once(out, name, steps[name])


def once(out: Path, name: str, build: Callable[[], None]) -> None:
    """Build an arm unless its time, which is written last, is there."""
    done = out / "seconds" / f"{name}.json"
    if done.exists():
        return
    began, cpu = time.time(), _cpu_seconds()
    build()
    done.parent.mkdir(parents=True, exist_ok=True)
    seconds = {"wall_s": time.time() - began, "cpu_s": _cpu_seconds() - cpu}
    done.write_text(json.dumps(seconds) + "\n")
    print(f"{name}: {seconds['wall_s']:.0f} s ({seconds['cpu_s']:.0f} CPU s)", flush=True)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def kept_captions(run: Path) -> int:
    """How many captions a run's curation kept."""
    files = sorted((run / "captions").glob("*.parquet"))
    return sum(sum(pq.read_table(file)["kept"].to_pylist()) for file in files)


def sample(source: Path, to: Path, count: int, *, seed: int) -> None:
    """Take some pairs of a LLaVA data set at random; their images stay where they are."""
    records: list[dict[str, Any]] = json.loads((source / "llava.json").read_bytes())
    to.mkdir(parents=True, exist_ok=True)
    (to / "llava.json").write_text(json.dumps(Random(seed).sample(records, count), indent=0))


def select_by_quotas(run: Path, to: Path, count: int) -> None:
    """The best so many pairs, as many of each kind of caption as there are in proportion."""
    records: list[dict[str, Any]] = json.loads((run / "dataset" / "llava.json").read_bytes())
    ranking = pq.read_table(run / "selection.parquet", columns=["caption_id", "rank"])
    ranks = dict(zip(*(column.to_pylist() for column in ranking.columns), strict=True))
    kinds: dict[tuple[bool, ...], list[dict[str, Any]]] = defaultdict(list)
    for record in sorted(records, key=lambda record: ranks[record["id"]]):
        kinds[named(record["conversations"][1]["value"])].append(record)
    # Where a record stands in its own kind (0 .. 1) decides.
    places = [
        ((place + 0.5) / len(kind), ranks[record["id"]], record)
        for kind in kinds.values()
        for place, record in enumerate(kind)
    ]
    places.sort(key=lambda place: place[:2])
    to.mkdir(parents=True, exist_ok=True)
    kept = [record for _, _, record in places[:count]]
    (to / "llava.json").write_text(json.dumps(kept, indent=0))


def named(caption: str) -> tuple[bool, ...]:
    """Which kinds of things a caption names: background, place, size, relation."""
    claim = parse(caption)
    if claim is None:
        return ()
    return tuple(map(bool, (claim.background, claim.place, claim.size, claim.relation)))


def data_of(out: Path, arm: str) -> tuple[Path, Path]:
    """The LLaVA JSON of an arm, and its images' folder."""
    if arm in ("a", "d", "e"):
        return out / arm / "llava.json", out / "a" / "images"
    if arm == "c":
        return out / "c" / "llava.json", out / "c-all" / "dataset" / "images"
    if arm == "b-quotas":
        return out / arm / "llava.json", out / "b-all" / "dataset" / "images"
    return out / arm / "dataset" / "llava.json", out / arm / "dataset" / "images"


if __name__ == "__main__":
    main()
