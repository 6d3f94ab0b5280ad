"""Does choosing by score pick better pictures? Asked of the bundled models, answered by pixels.

Run it with `python benchmarks/tiny_choosing.py`; steps, guidance and candidates are the recipe's.

Held-out captions (claims that neither model was trained on) get some candidates each. Whether a
candidate is wholly right is decided by `synthvlm.tiny.checker`, which knows the claim and looks
at pixels only; the score (CLIPScore + 0.5 * SSIMScore) knows nothing of that. Intervals are
95 % bootstrap intervals over captions.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from skimage.metrics import structural_similarity
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from synthvlm import Recipe
from synthvlm.tiny import captions_path, clip_path, pipeline_path
from synthvlm.tiny.captions import KINDS, Claim, is_held_out, phrase, sample_claim, sample_scene
from synthvlm.tiny.checker import check, see
from synthvlm.tiny.world import render
from synthvlm.tiny.wrong_captions import EDITS, edits

HELD_OUT_SEED = 900_000
PREFIX = "A photo depicts "
Floats = npt.NDArray[np.float64]


@dataclass
class Clip:
    """The bundled CLIP, with its own tokenizer and image processor."""

    model: Any
    tokenizer: Any
    processor: Any

    @classmethod
    def load(cls) -> Clip:
        """Load it in fp32."""
        return cls(
            CLIPModel.from_pretrained(clip_path(), dtype=torch.float32).eval(),
            CLIPTokenizer.from_pretrained(clip_path()),
            CLIPImageProcessorPil.from_pretrained(clip_path()),
        )

    @torch.no_grad()
    def images(self, images: list[Image.Image]) -> Floats:
        """Unit embeddings (n, d)."""
        out = []
        for i in range(0, len(images), 64):
            inputs = self.processor(images[i : i + 64], return_tensors="pt")
            out.append(self.model.get_image_features(**inputs).pooler_output)
        values = torch.cat(out).double().numpy()
        return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))

    @torch.no_grad()
    def texts(self, captions: list[str]) -> Floats:
        """Unit embeddings (n, d)."""
        out = []
        for i in range(0, len(captions), 64):
            words = [PREFIX + caption for caption in captions[i : i + 64]]
            inputs = self.tokenizer(words, padding=True, truncation=True, return_tensors="pt")
            out.append(self.model.get_text_features(**inputs).pooler_output)
        values = torch.cat(out).double().numpy()
        return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


def ssim_score(image: Image.Image) -> float:
    """How much of a 64x64 picture survives 28x28."""
    small = image.resize((28, 28), Image.Resampling.BILINEAR)
    back = small.resize(image.size, Image.Resampling.BILINEAR)
    return float(structural_similarity(np.array(image.convert("L")), np.array(back.convert("L"))))


def held_out_captions(
    count: int, seed: int, *, held_out: bool = True
) -> tuple[list[str], list[Claim]]:
    """Captions of held-out claims, none of them bundled, that the caption rules let pass.

    Without `held_out`: of claims that the models may have been trained on.
    """
    lines = captions_path().read_text(encoding="utf-8").splitlines()
    bundled = {json.loads(line)["caption"] for line in lines}
    rng = Random(seed)
    claims: dict[str, Claim] = {}
    while len(claims) < count:
        claim = sample_claim(rng, KINDS[len(claims) % len(KINDS)])
        if is_held_out(claim) != held_out:
            continue
        caption = phrase(claim, rng)
        special = sum(not c.isalpha() for c in caption) / len(caption)
        if caption not in bundled and 0.16534802 <= special <= 0.42023757:
            claims[caption] = claim
    return list(claims), list(claims.values())


def generate(
    captions: list[str], candidates: int, steps: int, guidance: float, batch: int
) -> list[list[Image.Image]]:
    """`candidates` pictures for each caption; candidate j of caption i has seed 1000 * i + j."""
    pipeline = DiffusionPipeline.from_pretrained(pipeline_path(), dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    jobs = [(i, j) for i in range(len(captions)) for j in range(candidates)]
    out: list[list[Image.Image]] = [[] for _ in captions]
    for start in range(0, len(jobs), batch):
        part = jobs[start : start + batch]
        images = pipeline(
            [captions[i] for i, _ in part],
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(1000 * i + j) for i, j in part],
        ).images
        for (i, _), image in zip(part, images, strict=True):
            out[i].append(image)
    return out


def interval(values: Floats, rng: np.random.Generator) -> tuple[float, float, float]:
    """Mean and its 95 % bootstrap interval."""
    if not len(values):
        return (float("nan"),) * 3
    draws = rng.integers(0, len(values), (2000, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def choosing(right: Floats, score: Floats, rng: np.random.Generator) -> dict[str, Any]:
    """Match rates of a random candidate, the best of each caption, and the selected fifth.

    Args:
        right: (captions, candidates), 1 where the candidate is wholly right.
        score: Scores of the same shape.
        rng: Source of the bootstrap.
    """
    n = len(right)
    best = score.argmax(axis=1)
    chosen = right[np.arange(n), best]
    top = np.argsort(-score[np.arange(n), best], kind="stable")[: max(1, n // 5)]
    rest = np.setdiff1d(np.arange(n), top)
    gain = chosen - right.mean(axis=1)
    step = [
        chosen[rng.choice(top, len(top))].mean() - chosen[rng.choice(rest, len(rest))].mean()
        for _ in range(2000)
    ]
    return {
        "captions": n,
        "random": interval(right.mean(axis=1), rng),
        "best": interval(chosen, rng),
        "fifth": interval(chosen[top], rng),
        "any": interval(right.max(axis=1), rng),
        "best_minus_random": interval(gain, rng),
        "fifth_minus_rest": (
            float(chosen[top].mean() - chosen[rest].mean()),
            *(float(x) for x in np.percentile(step, [2.5, 97.5])),
        ),
        "fifth_rows": [int(i) for i in top],
    }


def mean(values: Floats) -> float:
    """The mean; NaN of none."""
    return float(values.mean()) if len(values) else float("nan")


def auc(high: Floats, low: Floats) -> float:
    """Probability that a value of `high` exceeds one of `low` (ties count half); NaN: of none."""
    if not len(high) or not len(low):
        return float("nan")
    ranks = np.searchsorted(np.sort(low), high) + np.searchsorted(np.sort(low), high, "right")
    return float(ranks.mean() / (2 * len(low)))


def swapped_attributes(clip: Clip, count: int, seed: int) -> dict[str, dict[str, float]]:
    """How well the cosine tells right captions from ones with one attribute changed."""
    captions, claims = held_out_captions(count, seed)
    rng = Random(seed)
    scenes = [sample_scene(claim, rng) for claim in claims]
    seen = clip.images([Image.fromarray(x) for x in render(scenes)])
    right = (seen * clip.texts(captions)).sum(axis=1)
    pairs: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for i, claim in enumerate(claims):
        for name, edited in edits(claim, rng).items():
            pairs[name].append((i, phrase(edited, rng)))
    out: dict[str, dict[str, float]] = {}
    everything: tuple[list[float], list[float]] = ([], [])
    for name in EDITS:
        rows = np.array([i for i, _ in pairs[name]])
        wrong = (seen[rows] * clip.texts([t for _, t in pairs[name]])).sum(axis=1)
        out[name] = {
            "auc": auc(right[rows], wrong),
            "pair_accuracy": float((right[rows] > wrong).mean()),
            "pairs": float(len(rows)),
        }
        everything[0].extend(right[rows])
        everything[1].extend(wrong)
    high, low = np.array(everything[0]), np.array(everything[1])
    out["all"] = {
        "auc": auc(high, low),
        "pair_accuracy": float((high > low).mean()),
        "pairs": float(len(high)),
    }
    return out


def _percent(triple: tuple[float, float, float]) -> str:
    mean, low, high = (100 * x for x in triple)
    return f"{mean:.1f} ({low:.1f}..{high:.1f})"


def markdown(result: dict[str, Any]) -> str:
    """The tables of the evidence."""
    lines = [
        "| captions | random candidate, % | best of 4 by score, % | selected fifth, % "
        "| best - random | fifth - rest | in the overall fifth |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in result["choosing"].items():
        lines.append(
            f"| {name} ({row['captions']}) | {_percent(row['random'])} | {_percent(row['best'])} "
            f"| {_percent(row['fifth'])} | {_percent(row['best_minus_random'])} "
            f"| {_percent(row['fifth_minus_rest'])} "
            f"| {result['composition'].get(name, result['composition']['all'])} |"
        )
    lines += [
        "",
        "| content alone | random candidate, % | best of 4 by score, % | selected fifth, % |",
        "| --- | --- | --- | --- |",
    ]
    for name, row in result["choosing_content"].items():
        shares = " | ".join(_percent(row[which]) for which in ("random", "best", "fifth"))
        lines.append(f"| {name} ({row['captions']}) | {shares} |")
    lines += [
        "",
        "| attribute changed | AUC | pair accuracy | pairs |",
        "| --- | --- | --- | --- |",
    ]
    for name, row in result["attributes"].items():
        lines.append(
            f"| {name} | {row['auc']:.3f} | {row['pair_accuracy']:.3f} | {row['pairs']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def contact_sheet(images: list[list[Image.Image]], right: Floats, path: Path) -> None:
    """Rows of candidates at twice their size; a red bar marks the wrong ones."""
    rows, columns = len(images), len(images[0])
    sheet = Image.new("RGB", (columns * 136, rows * 136), "white")
    for i, row in enumerate(images):
        for j, image in enumerate(row):
            big = image.resize((128, 128), Image.Resampling.NEAREST)
            sheet.paste(big, (136 * j + 4, 136 * i + 4))
            if not right[i, j]:
                sheet.paste((220, 0, 0), (136 * j + 4, 136 * i + 130, 136 * j + 132, 136 * i + 134))
    sheet.save(path)


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    settings = Recipe.load("tiny").generation
    parser.add_argument("--captions", type=int, default=2000)
    parser.add_argument("--candidates", type=int, default=settings.candidates)
    parser.add_argument("--steps", type=int, default=settings.steps)
    parser.add_argument("--guidance", type=float, default=settings.guidance_scale)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED)
    parser.add_argument("--out", type=Path, default=Path("results/tiny_choosing"))
    parser.add_argument("--sheet", type=Path, default=None, help="write a contact sheet here")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure, and write a JSON and a Markdown file."""
    args = make_parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    clip = Clip.load()
    attributes = swapped_attributes(clip, args.captions, args.seed + 1)
    captions, claims = held_out_captions(args.captions, args.seed)
    began = time.process_time()
    images = generate(captions, args.candidates, args.steps, args.guidance, args.batch)
    per_image = (time.process_time() - began) / (len(captions) * args.candidates)
    right, content = (
        np.array(
            [
                [check(np.array(im), claim, looks=looks) for im in row]
                for row, claim in zip(images, claims, strict=True)
            ],
            float,
        )
        for looks in (True, False)
    )
    texts = clip.texts(captions)
    cosine = np.stack([clip.images(row) @ text for row, text in zip(images, texts, strict=True)])
    ssim = np.array([[ssim_score(im) for im in row] for row in images])
    score = np.maximum(cosine, 0) + 0.5 * ssim
    rng = np.random.default_rng(0)
    kinds = np.array([claim.kind for claim in claims])
    groups: dict[str, npt.NDArray[np.bool_]] = {"all": np.ones(len(kinds), bool)}
    groups.update({kind: kinds == kind for kind in KINDS})
    table, content_table = (
        {name: choosing(shown[rows], score[rows], rng) for name, rows in groups.items()}
        for shown in (right, content)
    )
    fifth = table["all"]["fifth_rows"]
    faults = Counter(str(see(np.array(im)).fault) for row in images for im in row)
    result = {
        "settings": {key: str(value) for key, value in vars(args).items()},
        "cpu_seconds_per_image": per_image,
        "choosing": table,
        "choosing_content": content_table,
        "composition": {"all": len(fifth), **Counter(str(kinds[i]) for i in fifth)},
        "attributes": attributes,
        "faults": dict(faults),
        "means": {
            kind: {
                "clip": float(cosine[rows].mean()),
                "clip_right": mean(cosine[rows][right[rows] > 0]),
                "clip_wrong": mean(cosine[rows][right[rows] == 0]),
                "ssim": float(ssim[rows].mean()),
                "ssim_std": float(ssim[rows].std()),
                "auc_generated": auc(cosine[rows][right[rows] > 0], cosine[rows][right[rows] == 0]),
            }
            for kind, rows in groups.items()
        },
    }
    for row in (*table.values(), *content_table.values()):
        row.pop("fifth_rows")
    args.out.with_suffix(".json").write_text(json.dumps(result, indent=1))
    args.out.with_suffix(".md").write_text(markdown(result))
    print(markdown(result))
    print(json.dumps(result["means"], indent=1), result["faults"], f"{per_image:.3f} s an image")
    if args.sheet is not None:
        contact_sheet(images[:12], right[:12], args.sheet)


if __name__ == "__main__":
    main()
