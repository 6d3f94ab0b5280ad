"""Build what the arms are taken from: ``python -m experiments.claim.arms --out .claim``.

- ``web/``: arm A, true drawings with noisy captions;
- ``pools/FAULTS/``: the web's captions through the pipeline with `FaultyRenderer`: all candidates
  of the captions that curation kept, their scores and images, and what each method of choosing and
  selecting takes of them;
- ``large/``: a larger web, and a data set of each pool of it;
- ``captioned/``: some of the web's pictures, captioned by a small model that was trained on a web
  like it.

What is there is kept: a killed command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import pyarrow.parquet as pq
from PIL import Image

import synthvlm
from experiments.claim.captioner import caption_web
from experiments.claim.generator import FaultyRenderer
from experiments.claim.web import PAIRS, make_web, record
from synthvlm import Pipeline, Recipe
from synthvlm.tiny.captions import holds, parse
from synthvlm.tiny.world import render

HERE = Path(__file__).parent
#: How a generator errs: of how many candidates depends on the captions; see the README.
FAULTS: Final[Mapping[str, Mapping[str, float]]] = {
    "sdxl": {"systematic": 1.0},
    "third": {"systematic": 0.4},
    "random": {"random": 0.4},
}
#: What each selection changes in ``pipeline.yaml``.
SELECTIONS: Final[Mapping[str, Sequence[str]]] = {
    "top": (),
    "quotas": ("selection.method=quotas",),
    "coverage": ("selection.method=coverage",),
    "clip": ("scoring.ssim.weight=0.0",),
}
#: Where the larger web and its pools are, and how many captions it has.
LARGE, LARGE_PAIRS = "large", 22_320
#: Arms that differ with the generator's faults, and those that are the same.
OF_FAULTS = ("c", "best", "top", "right", "wrong", "quotas", "coverage", "clip", LARGE)
FAULTLESS = ("real", "d", "e", "a")
ARMS = ("real", *OF_FAULTS, "d", "e", "a")
#: Pairs of every arm but A: 18 % of the web.
SHARE = 0.18


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(".claim"))
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--faults", nargs="+", default=["sdxl"], choices=FAULTS)
    parser.add_argument("--selections", nargs="+", default=SELECTIONS, choices=SELECTIONS)
    parser.add_argument("--no-captioner", action="store_true", help="without arm E")
    parser.add_argument("--large", action="store_true", help="also arm large")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    out: Path = args.out.resolve()
    once(out, "web", make_web, out / "web", args.pairs)
    for faults in args.faults:
        once(out, f"pool-{faults}", make_pool, out, faults)
        for name in args.selections:
            once(out, f"{faults}-{name}", select, out, faults, name)
    if not args.no_captioner:
        once(out, "captioned", caption_web, out / "web", out / "captioned")
    if args.large:
        once(out, "web-large", make_web, out / LARGE / "web", LARGE_PAIRS)
        for faults in args.faults:
            once(out, f"{faults}-large", make_large, out, faults)


def once(out: Path, name: str, build: Callable[..., None], *arguments: Any) -> None:
    """Build a part unless its time, which is written last, is there."""
    done = out / "seconds" / f"{name}.json"
    if done.exists():
        return
    began, cpu = time.time(), _cpu_seconds()
    build(*arguments)
    done.parent.mkdir(parents=True, exist_ok=True)
    seconds = {"wall_s": time.time() - began, "cpu_s": _cpu_seconds() - cpu}
    done.write_text(json.dumps(seconds) + "\n")
    print(f"{name}: {seconds['wall_s']:.0f} s ({seconds['cpu_s']:.0f} CPU s)", flush=True)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def run_pipeline(out: Path, faults: str, *changes: str, until: str = "select") -> Path:
    """The web's captions through the pipeline: the run's folder."""
    synthvlm.register(FaultyRenderer)
    folder = out / "pools" / faults / "run"
    changes = (
        f"sources.0.path={out / 'web' / 'captions.jsonl'}",
        f"sources.0.image_root={out / 'web' / 'images'}",
        f"selection.top_n={size(out)}",
        *(f"generation.options.{name}={value}" for name, value in FAULTS[faults].items()),
        *changes,
    )
    recipe = Recipe.load(str(HERE / "pipeline.yaml"), overrides=list(changes))
    Pipeline(recipe, str(folder)).run(until=until)
    return folder


def size(out: Path) -> int:
    """Pairs of every arm but A."""
    return round(SHARE * len(json.loads((out / "web" / "llava.json").read_bytes())))


def make_pool(out: Path, faults: str) -> None:
    """Generate and score; then ``candidates.json``, and all images, also of the losers.

    An image is ``CAPTION_ID-INDEX.png``; ``CAPTION_ID-real.png`` is candidate 0 without faults.
    """
    run, folder = run_pipeline(out, faults), out / "pools" / faults
    table = pq.read_table(run / "captions", columns=["id", "text"]).to_pydict()
    captions = dict(zip(table["id"], table["text"], strict=True))
    images = folder / "images"
    images.mkdir(exist_ok=True)
    erring, faultless = FaultyRenderer(**FAULTS[faults]), FaultyRenderer()
    by_caption: dict[str, list[dict[str, Any]]] = {}
    for row in pq.read_table(run / "candidates").to_pylist():
        id, index, caption = row["caption_id"], row["index"], captions[row["caption_id"]]
        scene, claim = erring.scene(caption, row["seed"]), parse(caption)
        Image.fromarray(render([scene])[0]).save(images / f"{id}-{index}.png")
        if index == 0:
            real = faultless.scene(caption, row["seed"])
            Image.fromarray(render([real])[0]).save(images / f"{id}-real.png")
        right = claim is not None and holds(claim, scene)
        entry = {"caption": caption, "right": right, "score": row["score"]}
        by_caption.setdefault(id, []).append(entry)
    (folder / "candidates.json").write_text(json.dumps(by_caption, indent=0))


def select(out: Path, faults: str, name: str) -> None:
    """Choose and select in one way: ``selected-NAME.json``, pairs of caption id and index."""
    run = run_pipeline(out, faults, *SELECTIONS[name])
    table = pq.read_table(run / "selection.parquet", columns=["caption_id", "index"])
    pairs = list(zip(*table.to_pydict().values(), strict=True))
    (out / "pools" / faults / f"selected-{name}.json").write_text(json.dumps(pairs))


def make_large(out: Path, faults: str) -> None:
    """As many pairs as the other arms have, of four times as many captions."""
    run_pipeline(out / LARGE, faults, f"selection.top_n={size(out)}", until="export")


def data_of(out: Path, faults: str, arm: str, seed: int, to: Path) -> tuple[Path, Path]:
    """Write the LLaVA JSON of an arm; returns it, and its images' folder.

    Args:
        out: Where the parts are.
        faults: A key of `FAULTS`; "" for `FAULTLESS` arms.
        arm: One of `ARMS`.
        seed: Of what is taken at random: captions (the same ones in arms ``real``, ``c``, ``best``
            and ``wrong``), and web pairs.
        to: The file to write.
    """
    rng = Random(seed)
    if arm in ("d", "e", "a"):
        source = out / ("captioned" if arm == "e" else "web") / "llava.json"
        records = json.loads(source.read_bytes())
        records = records if arm == "a" else rng.sample(records, size(out))
        to.write_text(json.dumps(records))
        return to, out / "web" / "images"
    if arm == LARGE:
        data = out / LARGE / "pools" / faults / "run" / "dataset"
        shutil.copyfile(data / "llava.json", to)
        return to, data / "images"
    pool = out / "pools" / (faults or next(iter(FAULTS)))
    by_caption: dict[str, list[dict[str, Any]]] = json.loads(
        (pool / "candidates.json").read_bytes()
    )
    to.write_text(
        json.dumps(
            [
                record(f"{id}-{index}", f"{id}-{index}.png", by_caption[id][0]["caption"])
                for id, index in _taken(pool, by_caption, arm, rng, size(out))
            ]
        )
    )
    return to, pool / "images"


def _taken(
    pool: Path, by_caption: Mapping[str, list[dict[str, Any]]], arm: str, rng: Random, count: int
) -> list[tuple[str, int | str]]:
    """Caption ids and the candidates that an arm takes of them."""
    if arm in SELECTIONS:
        return [tuple(pair) for pair in json.loads((pool / f"selected-{arm}.json").read_bytes())]

    def candidates(id: str, *, right: bool) -> list[int]:
        return [index for index, row in enumerate(by_caption[id]) if row["right"] is right]

    if arm == "right":
        possible = [id for id in sorted(by_caption) if candidates(id, right=True)]
        ids = rng.sample(possible, count)
        return [(id, rng.choice(candidates(id, right=True))) for id in ids]
    ids = rng.sample(sorted(by_caption), count)
    if arm == "wrong":
        return [(id, rng.choice(candidates(id, right=False) or [0])) for id in ids]
    if arm == "best":
        scores = {id: [row["score"] for row in by_caption[id]] for id in ids}
        return [(id, scores[id].index(max(scores[id]))) for id in ids]
    return [(id, "real" if arm == "real" else 0) for id in ids]


if __name__ == "__main__":
    main()
