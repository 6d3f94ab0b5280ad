"""Does the embedded verifier choose better pictures than CLIP? Judged by pixels.

Run it with `python benchmarks/tiny_verifier.py`; steps, guidance and candidates are the recipe's.

For captions of held-out claims (`tiny_choosing`), candidates are chosen by CLIPScore + 0.5 *
SSIMScore, by that + a weight * the verifier's value, and by the verifier alone. The verifier's
value is VQAScore, or the share of the caption's atomic questions that it answers with yes. The
weights are found on captions of other claims. Right is what `synthvlm.tiny.checker` lets pass;
content is the same with its tolerances for stains, outlines and debris off. Intervals are 95 %
bootstrap intervals over all captions.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from tiny_choosing import Clip, auc, generate, held_out_captions, interval, ssim_score

from synthvlm import Recipe
from synthvlm.captions.writers.questions import TRAINED_PROMPT
from synthvlm.models.vlm import VisionLanguageModel
from synthvlm.scorers.vqa import DEFAULT_PROMPT
from synthvlm.tiny import verifier_path
from synthvlm.tiny.atomic_questions import atomic_questions
from synthvlm.tiny.captions import Claim
from synthvlm.tiny.checker import check

WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """Some captions' candidates, judged and scored; arrays are of shape (captions, candidates).

    Attributes:
        captions: The captions.
        claims: What they say.
        images: RGB, (captions, candidates, 64, 64, 3).
        right: 1 where a candidate is wholly right.
        content: 1 where its content is right.
        cheap: CLIPScore + 0.5 * SSIMScore.
        values: What the verifier says, by "vqa" and "questions".
    """

    captions: list[str]
    claims: list[Claim]
    images: npt.NDArray[np.uint8]
    right: Floats
    content: Floats
    cheap: Floats
    values: dict[str, Floats]


class Verifier:
    """The verifier, and the time that it took."""

    def __init__(self, folder: Path, batch: int) -> None:
        """Load it in fp32."""
        self._model = VisionLanguageModel(str(folder), device="cpu", dtype="float32")
        self._batch = batch
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.images: Counter[str] = Counter()

    def vqa(self, images: npt.NDArray[np.uint8], captions: list[str]) -> Floats:
        """VQAScore, (captions, candidates)."""
        began = time.process_time()
        pairs = [
            (row, DEFAULT_PROMPT.format(caption=c))
            for rows, c in zip(images, captions, strict=True)
            for row in rows
        ]
        scores = self._ask(pairs, "likelihood")
        self._count("vqa", began, len(pairs))
        return scores.reshape(images.shape[:2])

    def questions(self, images: npt.NDArray[np.uint8], claims: list[Claim]) -> Floats:
        """Shares of the atomic questions that are answered with yes, (captions, candidates)."""
        began = time.process_time()
        asked = [
            (row, atomic_questions(claim))
            for rows, claim in zip(images, claims, strict=True)
            for row in rows
        ]
        answers = self._ask([(row, question) for row, all_ in asked for question in all_], "share")
        ends = np.cumsum([len(all_) for _, all_ in asked])
        shares = [(part > 0.5).mean() for part in np.split(answers, ends[:-1])]
        self._count("questions", began, len(asked))
        return np.array(shares).reshape(images.shape[:2])

    def _ask(self, pairs: list[tuple[npt.NDArray[np.uint8], str]], which: str) -> Floats:
        values: list[float] = []
        for start in range(0, len(pairs), self._batch):
            part = pairs[start : start + self._batch]
            images = [Image.fromarray(image) for image, _ in part]
            answers = self._model.say_yes(images, [question for _, question in part])
            values += [getattr(answer, which) for answer in answers]
        return np.array(values)

    def _count(self, name: str, began: float, images: int) -> None:
        self.seconds[name] += time.process_time() - began
        self.images[name] += images

    def written(self, captions: list[str], claims: list[Claim]) -> float:
        """The share of captions whose questions it writes exactly."""
        right = 0
        for start in range(0, len(captions), self._batch):
            part = slice(start, start + self._batch)
            asked = [TRAINED_PROMPT.format(caption=caption) for caption in captions[part]]
            answers = self._model.answer([None] * len(asked), asked, max_new_tokens=160)
            right += sum(
                answer.split("\n") == atomic_questions(claim)
                for answer, claim in zip(answers, claims[part], strict=True)
            )
        return right / len(captions)


def candidates(args: argparse.Namespace, seed: int, clip: Clip, *, held_out: bool) -> Candidates:
    """Generate, judge and score the candidates of one seed's captions, or take the cache's."""
    captions, claims = held_out_captions(args.captions, seed, held_out=held_out)
    name = f"{'held-out' if held_out else 'trainable'}-{seed}"
    size = f"{args.captions}x{args.candidates}-{args.steps}-{args.guidance:g}"
    file = None if args.cache is None else args.cache / f"{name}-{size}.npz"
    if file is None or not file.exists():
        pictures = generate(captions, args.candidates, args.steps, args.guidance, args.batch)
        arrays = _judged(captions, claims, pictures, clip)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(file, **arrays)
    else:
        with np.load(file) as stored:
            arrays = dict(stored)
    return Candidates(captions, claims, **arrays, values={})


def _judged(
    captions: list[str], claims: list[Claim], pictures: list[list[Image.Image]], clip: Clip
) -> dict[str, Any]:
    images = np.array([[np.array(image) for image in row] for row in pictures])
    pairs = list(zip(images, claims, strict=True))
    cosines = np.stack(
        [clip.images(row) @ text for row, text in zip(pictures, clip.texts(captions), strict=True)]
    )
    ssim = np.array([[ssim_score(image) for image in row] for row in pictures])
    return {
        "images": images,
        "right": np.array([[check(i, claim) for i in row] for row, claim in pairs], float),
        "content": np.array(
            [[check(i, claim, looks=False) for i in row] for row, claim in pairs], float
        ),
        "cheap": np.maximum(cosines, 0) + 0.5 * ssim,
    }


def only_best(pool: Candidates, score: Floats, count: int) -> Floats:
    """The score of the candidates that `cheap` ranks highest; the others cannot win."""
    order = np.argsort(-pool.cheap, axis=1, kind="stable")[:, count:]
    out = score.copy()
    np.put_along_axis(out, order, -np.inf, axis=1)
    return out


def best_weight(pool: Candidates, name: str) -> float:
    """The weight by which most chosen candidates are right; of equal ones the smallest."""
    shares = [
        pool.right[
            np.arange(len(pool.captions)), (pool.cheap + w * pool.values[name]).argmax(1)
        ].mean()
        for w in WEIGHTS
    ]
    return WEIGHTS[int(np.argmax(shares))]


def measure(sets: list[Candidates], weights: dict[str, float]) -> dict[str, Any]:
    """Shares of right choices in all sets together, and in each."""
    rng = np.random.default_rng(0)
    methods: dict[str, list[Floats]] = {"CLIPScore + 0.5 * SSIMScore": [s.cheap for s in sets]}
    for name, weight in weights.items():
        both = [s.cheap + weight * s.values[name] for s in sets]
        methods[f"the same + {weight:g} * {name}"] = both
        limited = [only_best(s, score, 2) for s, score in zip(sets, both, strict=True)]
        methods[f"the same + {weight:g} * {name}, `only_best: 2`"] = limited
        methods[f"{name} alone"] = [s.values[name] for s in sets]
    out: dict[str, Any] = {
        "random candidate": _row([(s.right.mean(1), s.content.mean(1)) for s in sets], rng)
    }
    for name, scores in methods.items():
        rows = []
        for pool, score in zip(sets, scores, strict=True):
            at = (np.arange(len(score)), score.argmax(1))
            rows.append((pool.right[at], pool.content[at]))
        out[name] = _row(rows, rng)
    out["any of the candidates"] = _row([(s.right.max(1), s.content.max(1)) for s in sets], rng)
    return out


def _row(sets: list[tuple[Floats, Floats]], rng: np.random.Generator) -> dict[str, Any]:
    right, content = (np.concatenate(parts) for parts in zip(*sets, strict=True))
    return {
        "right": interval(right, rng),
        "content": interval(content, rng),
        "seeds": [float(right.mean()) for right, _ in sets],
    }


def told_apart(sets: list[Candidates], name: str) -> float:
    """The AUC of a value: right candidates against the others, of all captions."""
    right = np.concatenate([s.right.ravel() for s in sets]) > 0
    value = np.concatenate([(s.cheap if name == "cheap" else s.values[name]).ravel() for s in sets])
    return auc(value[right], value[~right])


def markdown(result: dict[str, Any]) -> str:
    """The table."""
    lines = [
        "| chosen by | right, % | content right, % | right, by seed, % |",
        "| --- | --- | --- | --- |",
    ]
    for name, row in result["methods"].items():
        right, content = (
            "{:.1f} ({:.1f}..{:.1f})".format(*(100 * x for x in row[key]))
            for key in ("right", "content")
        )
        seeds = ", ".join(f"{100 * x:.1f}" for x in row["seeds"])
        lines.append(f"| {name} | {right} | {content} | {seeds} |")
    apart = ", ".join(f"{name} {value:.3f}" for name, value in result["auc"].items())
    seconds = ", ".join(f"{name} {value:.4f}" for name, value in result["seconds"].items())
    lines += [
        "",
        f"AUC on candidates: {apart}",
        f"CPU seconds an image: {seconds}",
        f"questions written exactly: {100 * result['written']:.1f} % of captions",
    ]
    return "\n".join(lines) + "\n"


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    settings = Recipe.load("tiny").generation
    parser.add_argument("--captions", type=int, default=1000, help="of each seed")
    parser.add_argument("--candidates", type=int, default=settings.candidates)
    parser.add_argument("--steps", type=int, default=settings.steps)
    parser.add_argument("--guidance", type=float, default=settings.guidance_scale)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[900_000, 910_000, 920_000])
    parser.add_argument("--weights-seed", type=int, default=800_000, help="not held out")
    parser.add_argument("--model", type=Path, default=verifier_path())
    parser.add_argument("--questions", action="store_true", help="by atomic questions, too")
    parser.add_argument("--cache", type=Path, default=None, help="keeps generated candidates")
    parser.add_argument("--out", type=Path, default=Path("results/tiny_verifier"))
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure, and write a JSON and a Markdown file."""
    args = make_parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    clip, verifier = Clip.load(), Verifier(args.model, args.batch)
    known = candidates(args, args.weights_seed, clip, held_out=False)
    sets = [candidates(args, seed, clip, held_out=True) for seed in args.seeds]
    for pool in (known, *sets):
        pool.values["vqa"] = verifier.vqa(pool.images, pool.captions)
        if args.questions:
            pool.values["questions"] = verifier.questions(pool.images, pool.claims)
    weights = {name: best_weight(known, name) for name in known.values}
    result = {
        "settings": {key: str(value) for key, value in vars(args).items()},
        "methods": measure(sets, weights),
        "auc": {name: told_apart(sets, name) for name in ("cheap", *weights)},
        "seconds": {n: verifier.seconds[n] / verifier.images[n] for n in verifier.seconds},
        "written": float(np.mean([verifier.written(s.captions, s.claims) for s in sets])),
    }
    args.out.with_suffix(".json").write_text(json.dumps(result, indent=1))
    args.out.with_suffix(".md").write_text(markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
