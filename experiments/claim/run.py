"""Train and test the arms: ``python -m experiments.claim.run --out .claim``.

Stage 1 on the pairs of an arm, then stage 2 on so many instruction samples, then the tests. Each
run leaves a file in ``OUT/results/``; what is there is not done again. ``summary.py`` makes the
tables of them.
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

from experiments.claim.arms import ARMS, FAULTLESS, FAULTS, LARGE, data_of
from experiments.claim.captioner import DRAWINGS, Captioner
from experiments.claim.questions import INSTRUCTIONS, make_questions

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Run:
    """A stage 1, and the stage 2 that starts from it.

    Attributes:
        faults: How the generator errs, a key of `FAULTS`; "" for arms without a generator.
        arm: One of `ARMS`.
        seed: Of what the arm takes at random, of the projector's first weights, and of the order
            of the samples, of both stages.
    """

    faults: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Of its file of results."""
        return "-".join(filter(None, (self.faults, self.arm, str(self.seed))))


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(".claim"))
    parser.add_argument("--seeds", nargs="+", type=int, default=range(5))
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=["sdxl"])
    usual = [arm for arm in ARMS if arm != LARGE]
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=usual, help="all but large")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    out: Path = args.out.resolve()
    if not (out / "questions" / "world.json").exists():
        make_questions(out / "questions")
    runs = [
        run
        for run in planned(args.arms, args.faults, args.seeds)
        if not (out / "results" / f"{run.name}.json").exists()
    ]
    began = time.time()
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        going = {pool.submit(carry_out, out, run): run for run in runs}
        for number, done in enumerate(as_completed(going), start=1):
            done.result()
            name = going[done].name
            print(f"{number}/{len(runs)} {name} ({time.time() - began:.0f} s)", flush=True)


def planned(arms: Sequence[str], faults: Sequence[str], seeds: Sequence[int]) -> Iterator[Run]:
    """All runs, a seed at a time."""
    for seed in seeds:
        for arm in arms:
            for kind in [""] if arm in FAULTLESS else faults:
                yield Run(kind, arm, seed)


def carry_out(
    out: Path,
    run: Run,
    instructions: int = INSTRUCTIONS,
    drawings: int = DRAWINGS,
) -> None:
    """Both stages and the tests of a run."""
    import torch

    from synthvlm.progress.terminal import quiet_libraries
    from synthvlm.training.recipe import TrainingRecipe
    from synthvlm.training.train import train

    quiet_libraries()
    torch.set_num_threads(1)
    clock = time.process_time

    def trained(recipe: str, folder: Path, data: tuple[Path, Path], *changes: str) -> Any:
        overrides = [f"seed={run.seed}", f"data.0.path={data[0]}", f"data.0.images={data[1]}"]
        loaded = TrainingRecipe.load(str(HERE / recipe), overrides=[*overrides, *changes])
        return train(loaded, str(folder))

    with tempfile.TemporaryDirectory() as scratch:
        folder, times = Path(scratch), [clock()]
        data = data_of(out, run.faults, run.arm, run.seed, folder / "pairs.json")
        stage1 = trained("pretrain.yaml", folder / "1", data)
        times.append(clock())
        captioner = Captioner(stage1.model)
        captions = captioner.right_share(drawings)
        loss, told_apart = captioner.told_apart(drawings)
        times.append(clock())
        questions = out / "questions"
        asked = json.loads((questions / "instructions.json").read_bytes())[:instructions]
        (folder / "asked.json").write_text(json.dumps(asked))
        data = (folder / "asked.json", questions / "images")
        stage2 = trained("finetune.yaml", folder / "2", data, f"model.start={stage1.model}")
        times.append(clock())
        groups = answered(questions, stage2.model)
        times.append(clock())
    parts = ("stage 1", "captions", "stage 2", "questions")
    result = {
        "faults": run.faults,
        "arm": run.arm,
        "seed": run.seed,
        "pairs": stage1.samples,
        "steps": stage1.steps,
        "captions": captions,
        "loss": loss,
        "told_apart": told_apart,
        "questions": groups,
        "cpu_s": {p: b - a for p, a, b in zip(parts, times, times[1:], strict=False)},
    }
    write(out / "results" / f"{run.name}.json", result)


def answered(questions: Path, model: str) -> dict[str, list[int]]:
    """Right answers and questions of each topic of the world."""
    from synthvlm.evaluation.local import ask
    from synthvlm.evaluation.questions import read_questions
    from synthvlm.evaluation.scoring import answer_scores
    from synthvlm.evaluation.settings import QuestionSettings
    from synthvlm.models.vlm import VisionLanguageModel
    from synthvlm.progress.display import SilentProgress

    asked = ask(
        VisionLanguageModel(model, device="cpu"),
        {},
        read_questions(str(questions / "world.json")),
        str(questions / "images"),
        Path(model).parent / "answers.jsonl",
        QuestionSettings(suffix="", max_new_tokens=6, batch_size=100),
        progress=SilentProgress(),
    )
    groups: dict[str, list[int]] = {}
    for question, score in zip(asked.questions, answer_scores(asked), strict=True):
        count = groups.setdefault(question.group, [0, 0])
        count[0] += int(score)
        count[1] += 1
    return groups


def write(path: Path, result: dict[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(path)


if __name__ == "__main__":
    main()
