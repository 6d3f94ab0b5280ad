"""Train and test every arm: ``python -m experiments.claim.run --out .claim``.

Stage 1 on the pairs of an arm, then stage 2 on so many instruction samples, then the tests. Each
run leaves a file in ``OUT/results/``; what is there is not done again. ``summary.py`` makes the
table and the figure of them.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from experiments.claim.arms import ARMS as WITH_DATA
from experiments.claim.arms import data_of
from experiments.claim.questions import INSTRUCTIONS, make_questions

HERE = Path(__file__).parent
ARMS = ("none", *WITH_DATA)
#: Not in the main table, which shall take under 40 minutes; asked for by name.
EXTRA = ("b-quotas",)
#: Arms that are also trained for as many steps as A takes.
EQUAL_STEPS = ("b", "c", "d", "b-quotas")
SAMPLES = (500, 2_000)
MORE_SAMPLES = (125, 250, 500, 1_000, 2_000)
TESTS = ("easy-vqa", "world", "text")


@dataclass(frozen=True, slots=True)
class Run:
    """A stage 1, and the stages 2 that start from it.

    Attributes:
        arm: One of `ARMS`.
        seed: Of the projector's first weights and of the order of the samples, of both stages.
        equal_steps: Whether stage 1 takes as many steps as that of A, else one epoch.
        samples: Instruction samples of each stage 2.
    """

    arm: str
    seed: int
    equal_steps: bool
    samples: tuple[int, ...]

    @property
    def name(self) -> str:
        """Of its file of results."""
        return f"{self.arm}{'-equal-steps' if self.equal_steps else ''}-{self.seed}"


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(".claim"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--arms", nargs="+", choices=ARMS, default=[arm for arm in ARMS if arm not in EXTRA]
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--equal-steps", action="store_true", help="also the second table")
    parser.add_argument("--full", action="store_true", help="that, and more numbers of samples")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    out: Path = args.out.resolve()
    if not (out / "questions" / "text.json").exists():
        make_questions(out / "questions")
    samples = MORE_SAMPLES if args.full else SAMPLES
    wanted = planned(args.arms, args.seeds, samples, equal=args.equal_steps or args.full)
    runs = [run for run in wanted if not is_done(out, run)]
    began = time.time()
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        going = {pool.submit(carry_out, out, run): run for run in runs}
        for number, done in enumerate(as_completed(going), start=1):
            done.result()
            name = going[done].name
            print(f"{number}/{len(runs)} {name} ({time.time() - began:.0f} s)", flush=True)


def planned(
    arms: Sequence[str], seeds: int, samples: tuple[int, ...], *, equal: bool
) -> Iterator[Run]:
    """All runs, a seed at a time; equal: those of as many steps as A takes, too."""
    for seed in range(seeds):
        for arm in arms:
            yield Run(arm, seed, False, samples)
        for arm in (arm for arm in EQUAL_STEPS if equal and arm in arms):
            yield Run(arm, seed, True, samples)


def is_done(out: Path, run: Run) -> bool:
    """Whether a run has results for all its numbers of samples."""
    file = out / "results" / f"{run.name}.json"
    if not file.exists():
        return False
    finished: dict[str, Any] = json.loads(file.read_text())["stage2"]
    return {str(n) for n in run.samples} <= finished.keys()


def carry_out(out: Path, run: Run) -> None:
    """Both stages and the tests of a run."""
    import torch

    from synthvlm.progress.terminal import quiet_libraries
    from synthvlm.training.recipe import TrainingRecipe
    from synthvlm.training.train import train

    quiet_libraries()
    torch.set_num_threads(1)

    def trained(recipe: str, folder: Path, data: tuple[Path, Path], *changes: str) -> Any:
        overrides = [f"seed={run.seed}", f"data.0.path={data[0]}", f"data.0.images={data[1]}"]
        loaded = TrainingRecipe.load(str(HERE / recipe), overrides=[*overrides, *changes])
        return train(loaded, str(folder))

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        began = time.process_time()
        if run.arm == "none":
            # No pairs: the first projector. A step at a rate of nearly nothing writes it.
            data = first_pairs(*data_of(out, "d"), folder / "none.json", 8)
            stage1 = trained(
                "pretrain.yaml", folder / "1", data, "optimisation.learning_rate=1e-30"
            )
        else:
            data = data_of(out, run.arm)
            epochs = equal_epochs(out, run.arm) if run.equal_steps else 1
            changes = ["optimisation.epochs=" + str(epochs)]
            stage1 = trained("pretrain.yaml", folder / "1", data, *changes)
        result: dict[str, Any] = {
            "arm": run.arm,
            "seed": run.seed,
            "equal_steps": run.equal_steps,
            "pairs": stage1.samples if run.arm != "none" else 0,
            "stage1": {
                "steps": stage1.steps,
                "loss": stage1.loss,
                "cpu_s": time.process_time() - began,
                "captions": captioned(stage1.model),
                "tests": tested(out, stage1.model, ["text"]),
            },
            "stage2": {},
        }
        for count in run.samples:
            began = time.process_time()
            questions = out / "questions"
            wanted = first_pairs(
                questions / "instructions.json",
                questions / "images",
                folder / f"{count}.json",
                count,
            )
            stage2 = trained(
                "finetune.yaml", folder / f"2-{count}", wanted, f"model.start={stage1.model}"
            )
            result["stage2"][str(count)] = {
                "steps": stage2.steps,
                "loss": stage2.loss,
                "cpu_s": time.process_time() - began,
                "tests": tested(out, stage2.model, TESTS),
            }
        write(out / "results" / f"{run.name}.json", result)


def first_pairs(path: Path, images: Path, to: Path, count: int) -> tuple[Path, Path]:
    """The first so many records of a LLaVA JSON file, and their images."""
    to.write_text(json.dumps(json.loads(path.read_bytes())[:count]))
    return to, images


def equal_epochs(out: Path, arm: str) -> int:
    """Epochs of an arm that come nearest to the steps of one epoch of A."""
    a, own = (len(json.loads(data_of(out, name)[0].read_bytes())) for name in ("a", arm))
    return round(a / own)


def tested(out: Path, model: str, tests: Sequence[str]) -> dict[str, dict[str, list[int]]]:
    """Right answers and questions of each group of each test."""
    from synthvlm.evaluation.local import ask
    from synthvlm.evaluation.questions import read_questions
    from synthvlm.evaluation.scoring import answer_scores
    from synthvlm.evaluation.settings import QuestionSettings
    from synthvlm.models.vlm import VisionLanguageModel
    from synthvlm.progress.display import SilentProgress

    loaded = VisionLanguageModel(model, device="cpu")
    found: dict[str, dict[str, list[int]]] = {}
    for test in tests:
        asked = ask(
            loaded,
            {},
            read_questions(str(out / "questions" / f"{test}.json")),
            str(out / "questions" / "images"),
            Path(model).parent / f"{test}.jsonl",
            QuestionSettings(suffix="", max_new_tokens=6, batch_size=100),
            progress=SilentProgress(),
        )
        groups = found[test] = {}
        for question, score in zip(asked.questions, answer_scores(asked), strict=True):
            count = groups.setdefault(question.group, [0, 0])
            count[0] += int(score)
            count[1] += 1
    return found


def captioned(model: str, count: int = 200) -> float:
    """Share of held-out drawings whose caption, in the format of stage 1, is wholly right."""
    from experiments.claim.captioner import captions_of, held_out_scenes
    from synthvlm.tiny.captions import holds, parse
    from synthvlm.tiny.world import render

    scenes = held_out_scenes(count)
    said = captions_of(model, list(render(scenes)))
    claims = [parse(caption) for caption in said]
    pairs = zip(claims, scenes, strict=True)
    return sum(claim is not None and holds(claim, scene) for claim, scene in pairs) / count


def write(path: Path, result: dict[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(path)


if __name__ == "__main__":
    assert max(MORE_SAMPLES) <= INSTRUCTIONS
    main()
