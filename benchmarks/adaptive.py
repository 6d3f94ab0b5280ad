"""Adaptive best-of-k on the embedded models: score and true matches against images generated.

    python benchmarks/adaptive.py [--captions 500] [--candidates 8]

Held-out captions get all their candidates once. From their scores follows what fixed best-of-k and
adaptive best-of-k would have chosen, the latter calibrated on the whole set, which no run can do.
Whether a chosen picture is wholly right is decided by `synthvlm.tiny.checker`, by its pixels. Then
a real run of `generation.adaptive` calibrates itself on its sample, and everything that it
generates is counted, the sample and regenerated winners too.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from PIL import Image
from tiny_choosing import held_out_captions

from synthvlm import Pipeline, Recipe
from synthvlm.data import candidate_seed
from synthvlm.progress.display import SilentProgress
from synthvlm.stages.generation.batch_generator import BatchGenerator
from synthvlm.stages.generation.models import Models
from synthvlm.stages.generation.requests import GenerationRequest
from synthvlm.stages.generation.stopping import choose_stopping
from synthvlm.tiny.captions import Claim
from synthvlm.tiny.checker import check

CAPTION_SEED = 78
FIXED, ADAPTIVE, RUN = "best of the first k", "adaptive, known scores", "a run, all its images"
COLOURS = {FIXED: "#888", ADAPTIVE: "#1f6fb2", RUN: "#c0392b"}
Floats = npt.NDArray[np.float64]


def generate_all(recipe: Recipe, captions: list[str], claims: list[Claim]) -> tuple[Floats, Floats]:
    """Scores and true matches (0 or 1) of all candidates, shape (captions, candidates)."""
    count = recipe.generation.candidates
    requests = [
        GenerationRequest(
            f"captions-{n}", index, caption, candidate_seed(recipe.seed, f"captions-{n}", index)
        )
        for n, caption in enumerate(captions)
        for index in range(count)
    ]
    scores, right = [], []
    with closing(BatchGenerator(recipe, SilentProgress(), Models.load)) as batch_generator:
        for start in range(0, len(requests), 64):
            for image in batch_generator.generate(requests[start : start + 64]).result():
                assert image.pixels is not None
                scores.append(image.scores["clip"] + 0.5 * image.scores["ssim"])
                claim = claims[int(image.request.id.rsplit("-", 1)[1])]
                right.append(check(image.pixels, claim))
    shape = (len(captions), count)
    return np.array(scores).reshape(shape), np.array(right, np.float64).reshape(shape)


def chosen(scores: Floats, right: Floats, generated: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Mean score and share of true matches of the best generated candidate of each caption."""
    best = np.where(generated, scores, -np.inf).argmax(axis=1)
    rows = np.arange(len(scores))
    return float(scores[rows, best].mean()), float(right[rows, best].mean())


class Table:
    """Prints a line for each choice, and keeps the points for a figure."""

    def __init__(self) -> None:
        """Print the heading."""
        self.points: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
        print("| choice | images per caption | mean score | gain kept | true matches |")
        print("|---|---|---|---|---|")

    def line(
        self, kind: str, name: str, images: float, score: float, right: float, gain: float
    ) -> None:
        """Print and keep a choice."""
        print(f"| {name} | {images:.2f} | {score:.4f} | {gain:.0%} | {right:.1%} |")
        self.points[kind].append((images, score, right))

    def figure(self) -> str:
        """The mean score and the true matches against images per caption, as SVG."""
        parts = [
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 300" font-size="12" '
            'font-family="sans-serif"><rect width="720" height="300" fill="white"/>'
        ]
        for panel, title in enumerate(("mean score", "true matches")):
            parts.append(self._panel(60 + 350 * panel, title, panel + 1))
        for row, (kind, colour) in enumerate(COLOURS.items()):
            x = 60 + 230 * row
            parts.append(f'<circle cx="{x}" cy="286" r="4" fill="{colour}"/>')
            parts.append(f'<text x="{x + 10}" y="290">{kind}</text>')
        return "".join([*parts, "</svg>\n"])

    def _panel(self, left: int, title: str, column: int) -> str:
        values = [point[column] for points in self.points.values() for point in points]
        most = max(point[0] for points in self.points.values() for point in points)
        low, high = min(values), max(values)

        def place(point: tuple[float, float, float]) -> str:
            x = left + 270 * point[0] / most
            return f"{x:.1f},{240 - 190 * (point[column] - low) / (high - low):.1f}"

        parts = [f'<text x="{left}" y="24" font-size="14">{title}</text>']
        for n in range(int(most) + 1):
            x = left + 270 * n / most
            parts.append(f'<line x1="{x}" x2="{x}" y1="40" y2="244" stroke="#e4e4e4"/>')
            parts.append(f'<text x="{x}" y="260" text-anchor="middle">{n}</text>')
        for value in (low, (low + high) / 2, high):
            y = 240 - 190 * (value - low) / (high - low)
            label = f"{value:.3f}" if column == 1 else f"{value:.0%}"
            parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{label}</text>')
        for kind, points in self.points.items():
            places, colour = list(map(place, points)), COLOURS[kind]
            parts.append(
                f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" '
                f'stroke-width="2"/>'
            )
            for spot in places:
                centre_x, centre_y = spot.split(",")
                radius = 5 if len(places) == 1 else 3
                parts.append(
                    f'<circle cx="{centre_x}" cy="{centre_y}" r="{radius}" fill="{colour}"/>'
                )
        return "".join(parts)


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, default=500)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--sample", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep-gain", type=float, default=0.88)
    parser.add_argument("--figure", type=Path, help="write the curves there, as SVG")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    captions, claims = held_out_captions(args.captions, CAPTION_SEED)
    count = args.candidates
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "captions.txt"
        file.write_text("\n".join(captions) + "\n", encoding="utf-8")
        changes = [f"generation.candidates={count}", "generation.dtype=float32"]
        changes += ["run.shard_size=100", f"run.threads={args.threads}"]
        fixed = Recipe.load("tiny", captions=[file], overrides=changes)
        scores, right = generate_all(fixed, captions, claims)
        low, high = scores[:, 0].mean(), scores.max(axis=1).mean()
        table = Table()
        for k in range(1, count + 1):
            generated = np.broadcast_to(np.arange(count) < k, scores.shape)
            score, matches = chosen(scores, right, generated)
            table.line(FIXED, f"best of {k}", k, score, matches, (score - low) / (high - low))
        for keep in (0.5, 0.7, 0.8, 0.85, 0.9, 0.95):
            stopping = choose_stopping(scores, keep)
            so_far = np.maximum.accumulate(scores, axis=1)
            reached = so_far >= stopping.threshold - stopping.decay * np.arange(count)
            stops = np.where(reached.any(axis=1), reached.argmax(axis=1), count - 1)
            generated = np.arange(count) <= stops[:, None]
            score, matches = chosen(scores, right, generated)
            gain = (score - low) / (high - low)
            name = f"adaptive, {stopping.threshold:.3f} falling by {stopping.decay:.3f}"
            table.line(ADAPTIVE, name, stops.mean() + 1, score, matches, gain)
        settings = f"{{sample: {args.sample}, keep_gain: {args.keep_gain}}}"
        adaptive = [*changes, f"generation.adaptive={settings}"]
        recipe = Recipe.load("tiny", captions=[file], overrides=adaptive)
        run = Path(folder) / "run"
        summary = Pipeline(recipe, run).run("generate").summaries[-1]
        images = args.sample * count + summary.counts["generated"] + summary.counts["regenerated"]
        winners, right_ones = [], []
        for part in sorted((run / "candidates").glob("*.parquet")):
            winners += [row["score"] for row in pq.read_table(part).to_pylist() if row["chosen"]]
        for part in sorted((run / "pairs").glob("*.parquet")):
            for row in pq.read_table(part).to_pylist():
                image = np.asarray(Image.open(io.BytesIO(row["image"])).convert("RGB"))
                right_ones.append(check(image, claims[int(row["caption_id"].rsplit("-", 1)[1])]))
        gain = (np.mean(winners) - low) / (high - low)
        table.line(
            RUN,
            f"a run, calibrated on {args.sample} captions",
            images / len(captions),
            float(np.mean(winners)),
            float(np.mean(right_ones)),
            gain,
        )
        if args.figure is not None:
            args.figure.write_text(table.figure(), encoding="utf-8")


if __name__ == "__main__":
    main()
