"""Early rejection on the embedded models: does it pay?

    python benchmarks/early_rejection.py [--captions 120] [--candidates 4]

The same captions with all candidates finished, and with candidates dropped after the first and
after the second of three steps. Sides take turns; time is that of the generator at work, without
loading. Whether a winner is wholly right is decided by `synthvlm.tiny.checker`, by its pixels.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
from tiny_choosing import held_out_captions

from synthvlm import Recipe
from synthvlm.data import candidate_seed
from synthvlm.progress import SilentProgress
from synthvlm.stages.drawing import Drawer, Image, Order
from synthvlm.stages.early_rejection import PreviewRule
from synthvlm.tiny.checker import check

CAPTION_SEED = 80
WAYS = {
    "all finished": None,
    "dropped after step 1": "{after: 0.34}",
    "dropped after step 2": "{after: 0.67}",
    "dropped after step 2, margin 0.05": "{after: 0.67, margin: 0.05}",
}


def draw(recipe: Recipe, captions: list[str]) -> tuple[float, list[Image]]:
    """Seconds of the generator at work, and the images."""
    orders = [
        Order(f"{n}", index, caption, candidate_seed(0, f"{n}", index))
        for n, caption in enumerate(captions)
        for index in range(recipe.generation.candidates)
    ]
    early = recipe.generation.early_rejection
    rule = None if early is None else PreviewRule(early.margin, {})
    with Drawer(recipe, SilentProgress()) as drawer:
        drawer.draw(orders[:16], rule).result()  # loads the models, and warms up
        before = drawer.drawing_s
        images = [
            image
            for start in range(0, len(orders), 16)
            for image in drawer.draw(orders[start : start + 16], rule).result()
        ]
        return drawer.drawing_s - before, images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, default=120)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    captions, claims = held_out_captions(args.captions, CAPTION_SEED)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    drawn: dict[str, list[Image]] = {}
    for _ in range(args.turns):
        for way, early in WAYS.items():
            changes = [f"generation.candidates={args.candidates}", "run.threads=1"]
            changes += ["generation.dtype=float32", f"generation.early_rejection={early}"]
            recipe = Recipe.load("tiny", overrides=changes if early else changes[:3])
            spent, drawn[way] = draw(recipe, captions)
            seconds[way].append(spent)
    print("| candidates | finished per caption | generator, s | mean score | true matches |")
    print("|---|---|---|---|---|")
    for way, images in drawn.items():
        scores, right = [], []
        for n in range(len(captions)):
            own = [i for i in images if i.order.id == f"{n}" and i.clip_score is not None]
            best = max(own, key=lambda i: i.clip_score + 0.5 * i.ssim_score)
            scores.append(best.clip_score + 0.5 * best.ssim_score)
            right.append(check(best.pixels, claims[n]))
        finished = sum(image.pixels is not None for image in images) / len(captions)
        print(
            f"| {way} | {finished:.2f} | {statistics.median(seconds[way]):.2f} "
            f"({min(seconds[way]):.2f} to {max(seconds[way]):.2f}) | {np.mean(scores):.4f} "
            f"| {np.mean(right):.1%} |"
        )


if __name__ == "__main__":
    main()
