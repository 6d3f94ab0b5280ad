"""Adaptive best-of-k on the embedded models: score and true matches against images drawn.

    python benchmarks/adaptive.py [--captions 500] [--candidates 8]

Held-out captions get all their candidates once. From their scores follows what fixed best-of-k and
adaptive best-of-k would have chosen, the latter calibrated on the whole set, which no run can do.
Whether a chosen picture is wholly right is decided by `synthvlm.tiny.checker`, by its pixels. Then
a real run of `generation.adaptive` calibrates itself on its sample, and everything that it draws is
counted, the sample and redrawn winners too.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from PIL import Image
from tiny_choosing import held_out_captions

from synthvlm import Pipeline, Recipe
from synthvlm.data import candidate_seed
from synthvlm.progress import SilentProgress
from synthvlm.stages.calibrate import choose_stopping
from synthvlm.stages.drawing import Drawer, Order
from synthvlm.tiny.captions import Claim
from synthvlm.tiny.checker import check

CAPTION_SEED = 78
Floats = npt.NDArray[np.float64]


def draw_all(recipe: Recipe, captions: list[str], claims: list[Claim]) -> tuple[Floats, Floats]:
    """Scores and true matches (0 or 1) of all candidates, shape (captions, candidates)."""
    count = recipe.generation.candidates
    orders = [
        Order(f"captions-{n}", index, caption, candidate_seed(recipe.seed, f"captions-{n}", index))
        for n, caption in enumerate(captions)
        for index in range(count)
    ]
    scores, right = [], []
    with Drawer(recipe, SilentProgress()) as drawer:
        for start in range(0, len(orders), 64):
            for image in drawer.draw(orders[start : start + 64]).result():
                assert image.clip_score is not None
                assert image.ssim_score is not None
                scores.append(image.clip_score + 0.5 * image.ssim_score)
                claim = claims[int(image.order.id.rsplit("-", 1)[1])]
                right.append(check(image.pixels, claim))
    shape = (len(captions), count)
    return np.array(scores).reshape(shape), np.array(right, np.float64).reshape(shape)


def chosen(scores: Floats, right: Floats, drawn: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Mean score and share of true matches of the best drawn candidate of each caption."""
    best = np.where(drawn, scores, -np.inf).argmax(axis=1)
    rows = np.arange(len(scores))
    return float(scores[rows, best].mean()), float(right[rows, best].mean())


def line(name: str, images: float, score: float, right: float, gain: float) -> None:
    print(f"| {name} | {images:.2f} | {score:.4f} | {gain:.0%} | {right:.1%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, default=500)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--sample", type=int, default=32)
    parser.add_argument("--keep-gain", type=float, default=0.88)
    args = parser.parse_args()
    captions, claims = held_out_captions(args.captions, CAPTION_SEED)
    count = args.candidates
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "captions.txt"
        file.write_text("\n".join(captions) + "\n", encoding="utf-8")
        changes = [f"generation.candidates={count}", "generation.dtype=float32"]
        changes += ["run.shard_size=100", "run.threads=2"]
        fixed = Recipe.load("tiny", captions=[file], overrides=changes)
        scores, right = draw_all(fixed, captions, claims)
        low, high = scores[:, 0].mean(), scores.max(axis=1).mean()
        print("| choice | images per caption | mean score | gain kept | true matches |")
        print("|---|---|---|---|---|")
        for k in range(1, count + 1):
            drawn = np.broadcast_to(np.arange(count) < k, scores.shape)
            score, matches = chosen(scores, right, drawn)
            line(f"best of {k}", k, score, matches, (score - low) / (high - low))
        for keep in (0.5, 0.7, 0.8, 0.85, 0.9, 0.95):
            found = choose_stopping(scores, keep)
            so_far = np.maximum.accumulate(scores, axis=1)
            reached = so_far >= found.threshold - found.decay * np.arange(count)
            stops = np.where(reached.any(axis=1), reached.argmax(axis=1), count - 1)
            drawn = np.arange(count) <= stops[:, None]
            score, matches = chosen(scores, right, drawn)
            gain = (score - low) / (high - low)
            name = f"adaptive, {found.threshold:.3f} falling by {found.decay:.3f}"
            line(name, stops.mean() + 1, score, matches, gain)
        settings = f"{{sample: {args.sample}, keep_gain: {args.keep_gain}}}"
        adaptive = [*changes, f"generation.adaptive={settings}"]
        recipe = Recipe.load("tiny", captions=[file], overrides=adaptive)
        run = Path(folder) / "run"
        summary = Pipeline(recipe, run).run("generate")[-1]
        images = args.sample * count + summary.counts["generated"] + summary.counts["regenerated"]
        winners, right_ones = [], []
        for part in sorted((run / "candidates").glob("*.parquet")):
            winners += [row["score"] for row in pq.read_table(part).to_pylist() if row["chosen"]]
        for part in sorted((run / "pairs").glob("*.parquet")):
            for row in pq.read_table(part).to_pylist():
                image = np.asarray(Image.open(io.BytesIO(row["image"])).convert("RGB"))
                right_ones.append(check(image, claims[int(row["caption_id"].rsplit("-", 1)[1])]))
        gain = (np.mean(winners) - low) / (high - low)
        line(
            f"a run, calibrated on {args.sample} captions",
            images / len(captions),
            float(np.mean(winners)),
            float(np.mean(right_ones)),
            gain,
        )


if __name__ == "__main__":
    main()
