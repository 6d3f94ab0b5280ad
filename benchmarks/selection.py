"""Time and memory of the stage select, from 10,000 to 1,000,000 pairs, for each method.

Run it with `python benchmarks/selection.py --folder DIR` (5 GB there for a million). For each size
it writes the files of a run folder as generation would leave them: captions, scores, and 512
numbers each for the embeddings of caption and image, in clusters, a tenth of the images nearly
copies of others; images themselves are a byte. Each method is then run in a process of its own,
figures of coverage included, and its peak memory is that of the whole process. Of near-duplicate
images it is also measured how many are found: of 2,000 images the share of those that have a better
twin among the kept ones, of which they were compared with all, that were dropped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from synthvlm.data import candidate_schema, caption_schema, pair_schema
from synthvlm.progress.display import SilentProgress
from synthvlm.recipe import Recipe
from synthvlm.run_folder.folder import RunFolder
from synthvlm.stages.near_duplicate_images import TWINS_FILE
from synthvlm.stages.select import select

METHODS = {
    "top": "{method: top}",
    "quotas by source": "{method: quotas, options: {field: source, shares: equal}}",
    "quotas by concept": "{method: quotas, options: {field: concept, shares: equal}}",
    "quotas by 100 clusters": "{method: quotas}",
    "coverage of captions": "{method: coverage}",
    "coverage of both": "{method: coverage, options: {embeddings: both}}",
    "top, no near-duplicate images": "{near_duplicate_images: {}}",
    "coverage, no near-duplicate images": "{method: coverage, near_duplicate_images: {}}",
}
WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst"]
NUMBERS, SHARD, SAMPLE = 512, 10_000, 2000


def embeddings(
    rng: np.random.Generator, centers: npt.NDArray[np.float32], of: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Unit vectors near the centers, all in one cone, as those of CLIP are."""
    vectors = centers[of] + 0.8 * rng.standard_normal((len(of), NUMBERS), np.float32) + 0.8
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def column(vectors: npt.NDArray[np.float32]) -> pa.Array:
    flat = pa.array(vectors.astype(np.float16).reshape(-1))
    offsets = pa.array(np.arange(len(vectors) + 1, dtype=np.int32) * NUMBERS)
    return pa.ListArray.from_arrays(offsets, flat)


def write_run(run: RunFolder, count: int) -> None:
    """Write the files of so many pairs."""
    rng = np.random.default_rng(count)
    topics = max(20, count // 500)
    centers = rng.standard_normal((2, topics, NUMBERS), np.float32)
    originals = np.empty((0, NUMBERS), np.float32)
    for shard, start in enumerate(range(0, count, SHARD)):
        n = min(SHARD, count - start)
        of = rng.integers(0, topics, n)
        texts, images = (embeddings(rng, centers[kind], of) for kind in (0, 1))
        if not len(originals):
            originals = images[: n // 10].copy()
        copies = rng.choice(np.arange(n // 10, n), n // 10, replace=False)
        noise = 0.15 / np.sqrt(NUMBERS) * rng.standard_normal((len(copies), NUMBERS))
        images[copies] = originals[rng.integers(0, len(originals), len(copies))] + noise
        if shard:
            originals = np.concatenate([originals, images[: n // 10]])
        ids = [f"web-{number}" for number in range(start, start + n)]
        scores = rng.normal(1.0, 0.1, n)
        words = [[WORDS[t % len(WORDS)], *rng.choice(WORDS, 3)] for t in of.tolist()]
        captions = {
            "id": ids,
            "source": [f"source-{t % 5}" for t in of.tolist()],
            "row": list(range(start, start + n)),
            "text": [f"a {a} and a {b} beside the {c} of a {d}" for a, b, c, d in words],
            "kept": [True] * n,
        }
        candidates = {
            "caption_id": ids, "index": [0] * n, "seed": [0] * n, "status": ["ok"] * n,
            "clip_score": scores, "ssim_score": scores, "score": scores, "chosen": [True] * n,
        }  # fmt: skip
        pairs = {
            "caption_id": ids, "index": [0] * n, "image": [b"x"] * n, "format": ["png"] * n,
            "width": [1] * n, "height": [1] * n,
        }  # fmt: skip
        files = [
            run.write_table(folder, shard, filled(values, schema))
            for folder, values, schema in (
                ("candidates", candidates, candidate_schema(["clip", "ssim"])),
                (
                    "pairs",
                    pairs | {"image_embedding": column(images), "text_embedding": column(texts)},
                    pair_schema(),
                ),
            )
        ]
        run.commit("generate", shard, "g", files)
        file = run.write_table("captions", shard, filled(captions, caption_schema()))
        run.commit("curate", shard, "c", [file], {"captions": n, "kept": n})


def filled(values: dict[str, object], schema: pa.Schema) -> pa.Table:
    """A table of a schema; what is not given is null."""
    count = len(values["index" if "index" in values else "id"])  # type: ignore[arg-type]
    arrays = [
        values[field.name].cast(field.type)  # type: ignore[attr-defined]
        if isinstance(values.get(field.name), pa.Array)
        else pa.array(values.get(field.name, [None] * count), field.type)
        for field in schema
    ]
    return pa.table(arrays, schema)


def run_method(folder: str, name: str) -> None:
    """Select with one method in this process, and print what it took."""
    run = RunFolder(folder)
    changes = [
        f"selection={METHODS[name]}",
        "selection.top_fraction=0.2",
        f"curation.concepts={{cap: 1, concepts: [{', '.join(WORDS[:100])}]}}",
    ]
    recipe = Recipe.load("tiny", overrides=changes)
    began = time.monotonic()
    captions, generated = run.markers("curate"), run.markers("generate")
    counts = select(run, recipe, captions, generated, SilentProgress()).counts
    seconds, cpu = time.monotonic() - began, time.process_time()
    with open("/proc/self/status", encoding="ascii") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    facts = run.markers("select")[0].facts
    print(json.dumps({"seconds": seconds, "cpu": cpu, "gb": peak / 2**20, **counts, **facts}))


def recall(run: RunFolder, count: int) -> float:
    """Of sampled images that have a better twin among the kept ones, the share that was dropped."""
    table = run.read_table(TWINS_FILE)
    dropped = np.zeros(count, bool)
    dropped[[int(id.removeprefix("web-")) for id in table["caption_id"].to_pylist()]] = True
    sample = np.sort(np.random.default_rng(1).choice(count, min(SAMPLE, count), replace=False))
    vectors, scores = [], np.empty(count)
    markers = run.markers("generate")
    for shard, marker in markers.items():
        rows = run.read_table(str(marker.file("candidates")), ["score"])
        scores[shard * SHARD : shard * SHARD + len(rows)] = rows["score"].to_numpy()
        here = sample[sample // SHARD == shard] - shard * SHARD
        vectors.append(images_of(run, str(marker.file("pairs")))[here])
    looked_at = np.concatenate(vectors)
    has_twin = np.zeros(len(sample), bool)
    for shard, marker in markers.items():
        numbers = np.arange(shard * SHARD, min(count, (shard + 1) * SHARD))
        near = looked_at @ images_of(run, str(marker.file("pairs"))).T > 0.98
        better = scores[numbers] > scores[sample][:, None]
        has_twin |= (near & better & ~dropped[numbers]).any(axis=1)
    return float((has_twin & dropped[sample]).sum() / max(1, has_twin.sum()))


def images_of(run: RunFolder, name: str) -> npt.NDArray[np.float32]:
    values = run.read_table(name, ["image_embedding"])["image_embedding"].combine_chunks()
    wide = values.flatten().to_numpy().reshape(-1, NUMBERS).astype(np.float32)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("results/selection"))
    parser.add_argument("--pairs", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure, and print a table."""
    args = make_parser().parse_args(argv)
    if args.one is not None:
        run_method(*args.one)
        return
    print("| pairs | method | seconds | CPU s | peak memory, GB | selected | twins found |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for count in args.pairs:
        run = RunFolder(args.folder / f"pairs-{count}")
        if len(run.markers("generate")) != -(-count // SHARD):
            write_run(run, count)
        for name in args.methods:
            command = [sys.executable, __file__, "--one", run.url, name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            figures = json.loads(done.stdout.splitlines()[-1])
            share = f"{recall(run, count):.1%}" if "near_duplicates" in figures else ""
            print(
                f"| {count:,} | {name} | {figures['seconds']:.1f} | {figures['cpu']:.1f} "
                f"| {figures['gb']:.2f} | {figures['selected']:,} | {share} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
