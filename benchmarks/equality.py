"""How equal are runs at other batch and shard sizes? Seeds, pixels, scores, selections.

    python benchmarks/equality.py [--limit 60] [--recipe tiny]

Every configuration is a run of its own on the same captions, compared with the first.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from synthvlm import Pipeline, Recipe

CONFIGURATIONS = ((8, 64), (1, 64), (3, 64), (8, 7), (3, 7), (8, 64))
NEAR = 1e-3


def rows(out: Path, folder: str) -> list[dict[str, Any]]:
    files = sorted((out / folder).glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument("--threads", default="auto", help="of the CPU (default: auto)")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    print(
        "| batch, shard | seeds differ | pixels: max | scores: max | winners differ | of which "
        "within 1e-3 of the runner-up | selected differ |"
    )
    print("|---|---|---|---|---|---|---|")
    first: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (batch, shard) in enumerate(CONFIGURATIONS):
            out = Path(folder) / str(number)
            changes = [f"run.batch_size={batch}", f"run.shard_size={shard}"]
            changes.append(f"run.threads={args.threads}")
            Pipeline(Recipe.load(args.recipe, overrides=changes, limit=args.limit), out).run(
                "select"
            )
            present = facts(out)
            if not first:
                first = present
                continue
            print(f"| {batch}, {shard} | {compare(first, present)} |")


def facts(out: Path) -> dict[str, Any]:
    candidates = {(c["caption_id"], c["index"]): c for c in rows(out, "candidates")}
    pairs = {
        (p["caption_id"], p["index"]): np.asarray(Image.open(io.BytesIO(p["image"])), np.int16)
        for p in rows(out, "pairs")
    }
    selection = pq.read_table(out / "selection.parquet").to_pylist()
    return {"candidates": candidates, "pairs": pairs, "selection": selection}


def compare(one: dict[str, Any], other: dict[str, Any]) -> str:
    left, right = one["candidates"], other["candidates"]
    assert left.keys() == right.keys()
    seeds = sum(left[key]["seed"] != right[key]["seed"] for key in left)
    scores = max(abs(left[key]["score"] - right[key]["score"]) for key in left)
    shared = one["pairs"].keys() & other["pairs"].keys()
    pixels = max(int(np.abs(one["pairs"][k] - other["pairs"][k]).max()) for k in shared)
    changed = {id for id, _ in one["pairs"].keys() ^ other["pairs"].keys()}
    near = sum(runner_up_is_near(left, id) for id in changed)
    chosen = [{(r["caption_id"], r["index"]) for r in run["selection"]} for run in (one, other)]
    moved = len(chosen[0] ^ chosen[1])
    return f"{seeds} | {pixels} | {scores:.1e} | {len(changed)} | {near} | {moved}"


def runner_up_is_near(candidates: dict[Any, dict[str, Any]], id: str) -> bool:
    scores: list[float] = sorted(
        (c["score"] for (key, _), c in candidates.items() if key == id), reverse=True
    )
    return next(a - b < NEAR for a, b in pairwise(scores))


if __name__ == "__main__":
    main()
