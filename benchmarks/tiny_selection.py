"""Which selection keeps right pairs and still covers the captions? Asked of the embedded models.

Run it with `python benchmarks/tiny_selection.py --folder DIR`. For each seed, held-out captions get
four candidates each by the recipe `tiny`, in a run folder below DIR that a second run reuses; each
selection then keeps a fifth of the pairs, and a random fifth is the mean of 20. A pair is right if
`synthvlm.tiny.checker` sees in the picture exactly what the caption says. The tables give the mean
over seeds and half the width of its 95 % interval (Student's t).
"""

from __future__ import annotations

import argparse
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from PIL import Image
from tiny_choosing import held_out_captions

from synthvlm import Pipeline, Recipe
from synthvlm.components.component import LoadContext
from synthvlm.selectors import SELECTORS
from synthvlm.selectors.base import best_first
from synthvlm.selectors.near_duplicates import by_embedding, twins
from synthvlm.tiny.captions import Claim, holds
from synthvlm.tiny.checker import see

#: What is compared: the method, its options, and whether near-duplicate images are left out.
METHODS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "top": ("top", {}, False),
    "quotas, 100 clusters": ("quotas", {}, False),
    **{
        f"coverage, weight {weight:g}": ("coverage", {"score_weight": weight}, False)
        for weight in (0.25, 0.5, 1.0, 2.0)
    },
    "coverage of images": ("coverage", {"embeddings": "image"}, False),
    "coverage of both": ("coverage", {"embeddings": "both"}, False),
    "top, no near-duplicates": ("top", {}, True),
    "quotas, no near-duplicates": ("quotas", {}, True),
    "coverage, no near-duplicates": ("coverage", {}, True),
}
MEASURES = ("right, %", "names a background, %", "names a place or relation, %",
            "captions covered", "near twin, %")  # fmt: skip
#: Quantiles of Student's t, two-sided 95 %, by degrees of freedom.
STUDENT = {
    1: 12.706,
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    6: 2.447,
    7: 2.365,
    8: 2.306,
    9: 2.262,
}

Floats = npt.NDArray[np.float64]


def generated(folder: Path, seed: int, count: int) -> tuple[pa.Table, list[Claim]]:
    """The pairs of a run, in the order of their caption ids, with images; and their claims."""
    captions, claims = held_out_captions(count, 500_000 + seed)
    place = folder / f"seed-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    (place / "captions.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")
    recipe = Recipe.load(
        "tiny",
        captions=[place / "captions.txt"],
        overrides=[
            f"seed={seed}", "run.threads=1", "run.shard_size=250", "run.batch_size=16",
            "report.preview_share=0.0",
        ],
    )  # fmt: skip
    pipeline = Pipeline(recipe, place / "run")
    pipeline.run("generate")
    run, parts = pipeline.folder, []
    for marker in run.markers("generate").values():
        pairs, rows = (run.read_table(str(marker.file(name))) for name in ("pairs", "candidates"))
        chosen = rows.filter(rows["chosen"])
        assert chosen["caption_id"].to_pylist() == pairs["caption_id"].to_pylist()
        parts.append(pairs.append_column("score", chosen["score"]))
    table = pa.concat_tables(parts)
    order = np.argsort(np.array(table["caption_id"].to_pylist()))
    table = table.take(pa.array(order))
    numbers = [int(id.rpartition("-")[2]) for id in table["caption_id"].to_pylist()]
    return table, [claims[number] for number in numbers]


def is_right(image: bytes, claim: Claim) -> bool:
    sighting = see(np.asarray(Image.open(io.BytesIO(image)).convert("RGB")))
    return sighting.scene is not None and sighting.fault is None and holds(claim, sighting.scene)


def columns(table: pa.Table) -> tuple[pa.Table, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The pairs as a selector gets them, and unit embeddings of captions and images."""
    pairs, unit = table.select(["caption_id", "score"]), []
    for name in ("text_embedding", "image_embedding"):
        values = np.array(table[name].to_pylist(), np.float16)
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
        pairs = pairs.append_column(name, column)
        wide = values.astype(np.float32)
        unit.append(wide / np.linalg.norm(wide, axis=1, keepdims=True))
    return pairs, unit[0], unit[1]


def measured(folder: Path, seed: int, count: int) -> dict[str, Floats]:
    """For each selection what `MEASURES` names."""
    table, claims = generated(folder, seed, count)
    pairs, texts, images = columns(table)
    pixels = table["image"].to_pylist()
    right = np.array([is_right(image, claim) for image, claim in zip(pixels, claims, strict=True)])
    background = np.array([claim.background is not None for claim in claims])
    place = np.array([claim.place is not None or claim.relation is not None for claim in claims])
    near_texts, near_images = texts @ texts.T, images @ images.T - 2 * np.eye(len(images))
    size = max(1, len(pairs) // 5)

    def figures(rows: npt.NDArray[np.int64]) -> Floats:
        twin = near_images[np.ix_(rows, rows)].max(axis=1) > 0.98
        shares = [100 * x.mean() for x in (right[rows], background[rows], place[rows])]
        return np.array([*shares, near_texts[:, rows].max(axis=1).mean(), 100 * twin.mean()])

    rank = np.argsort(best_first(pairs))
    vectors = np.asarray(images, np.float16)
    alone = np.flatnonzero(twins(rank, [by_embedding(vectors, rank, 0.98)]) < 0)
    rng = np.random.default_rng(seed)
    draws = [figures(rng.choice(len(pairs), size, replace=False)) for _ in range(20)]
    results = {"all winners": figures(np.arange(len(pairs))), "random": np.mean(draws, axis=0)}
    for name, (method, options, is_pruned) in METHODS.items():
        selector = SELECTORS.load(method, SELECTORS.settings(method, options), LoadContext())
        rows = alone if is_pruned else np.arange(len(pairs))
        results[name] = figures(rows[selector.select(pairs.take(pa.array(rows)), size)])
    return results


def interval(values: Floats, digits: int) -> str:
    """The mean, and half the width of its interval where there are several values."""
    if len(values) < 2:
        return f"{values[0]:.{digits}f}"
    half = STUDENT.get(len(values) - 1, 1.96) * values.std(ddof=1) / math.sqrt(len(values))
    return f"{values.mean():.{digits}f} ± {half:.{digits}f}"


def markdown(seeds: list[dict[str, Floats]]) -> str:
    """The table of all selections, and what the aims are about: differences from top."""
    head = ["selection", *MEASURES, "right - top", "covered - random", "twins / top's"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in seeds[0]:
        values = np.array([seed[name] for seed in seeds])
        cells = [interval(values[:, n], 3 if n == 3 else 1) for n in range(len(MEASURES))]
        top, random = (np.array([seed[other] for seed in seeds]) for other in ("top", "random"))
        cells.append(interval(values[:, 0] - top[:, 0], 1))
        cells.append(interval(values[:, 3] - random[:, 3], 3))
        cells.append(interval(values[:, 4] / np.maximum(top[:, 4], 1e-9), 2))
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("results/tiny_selection"))
    parser.add_argument("--captions", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 4, 5, 6, 7])
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure, and print a table."""
    args = make_parser().parse_args(argv)
    torch.set_num_threads(1)
    seeds = []
    for seed in args.seeds:
        seeds.append(measured(args.folder, seed, args.captions))
        print(f"seed {seed} done", flush=True)
    print(markdown(seeds))


if __name__ == "__main__":
    main()
