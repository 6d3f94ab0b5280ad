"""The paper's benchmarks: their tasks in the harnesses, and what others published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from synthvlm.errors import EvaluationError

__all__ = ["EASY_VQA", "PAPER", "Benchmark", "Metric", "choose_benchmarks"]

#: The benchmark that runs without a harness.
EASY_VQA = "easy-vqa"
_LLAVA_7B, _LLAVA_13B = "LLaVA-1.5-7B", "LLaVA-1.5-13B"


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that a harness gives of a task.

    Attributes:
        key: Its name in the result file, without the filter behind the comma.
        label: Its name in tables.
        scale: What it is multiplied by: shares become percent.
        published: Figures of others on the same scale, by model.
        note: How the published figures were taken otherwise; "" if they were not.
    """

    key: str
    label: str
    scale: float = 100.0
    published: tuple[tuple[str, float], ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark of the paper.

    Attributes:
        name: For the command line.
        title: For tables.
        harness: Who runs it.
        task: Its name there.
        metrics: What is read from the result.
        few_shot: Solved examples in the prompt; None: the task's own.
        needs_judge: Whether answers are judged by a model behind an API.
        needs_login: Whether the harness fetches the data set with a token of the hub only.
    """

    name: str
    title: str
    harness: Literal["lmms-eval", "lm-eval"]
    task: str
    metrics: tuple[Metric, ...]
    few_shot: int | None = None
    needs_judge: bool = False
    needs_login: bool = True


def _llava(small: float, large: float) -> tuple[tuple[str, float], ...]:
    """From LLaVA-1.5's model zoo."""
    return ((_LLAVA_7B, small), (_LLAVA_13B, large))


#: Of MMLU the figures are the paper's (arXiv 2407.20756), of all others LLaVA-1.5's own.
PAPER = (
    Benchmark("scienceqa", "ScienceQA", "lmms-eval", "scienceqa", (Metric("exact_match", "all"),)),
    Benchmark(
        "scienceqa-img",
        "ScienceQA",
        "lmms-eval",
        "scienceqa_img",
        (Metric("exact_match", "image", published=_llava(66.8, 71.6)),),
    ),
    Benchmark(
        "mm-vet",
        "MM-Vet",
        "lmms-eval",
        "mmvet",
        (Metric("gpt_eval_score", "judge", 1.0, _llava(31.1, 36.1), "another judge model"),),
        needs_judge=True,
    ),
    Benchmark(
        "vizwiz",
        "VizWiz",
        "lmms-eval",
        "vizwiz_vqa_val",
        (Metric("exact_match", "VQA accuracy", published=_llava(50.0, 53.6), note="test split"),),
        needs_login=False,
    ),
    Benchmark(
        "vqav2",
        "VQAv2",
        "lmms-eval",
        "vqav2_val",
        (Metric("exact_match", "VQA accuracy", published=_llava(78.5, 80.0), note="test split"),),
    ),
    Benchmark(
        "gqa",
        "GQA",
        "lmms-eval",
        "gqa",
        (Metric("exact_match", "accuracy", published=_llava(62.0, 63.3)),),
    ),
    Benchmark(
        "mmbench",
        "MMBench",
        "lmms-eval",
        "mmbench_en_dev_static",
        (Metric("gpt_eval_score", "circular", 1.0, _llava(64.3, 67.7)),),
    ),
    Benchmark(
        "mme",
        "MME",
        "lmms-eval",
        "mme",
        (
            Metric("mme_perception_score", "perception", 1.0, _llava(1510.7, 1531.3)),
            Metric("mme_cognition_score", "cognition", 1.0),
        ),
    ),
    Benchmark(
        "pope",
        "POPE",
        "lmms-eval",
        "pope",
        (
            Metric("pope_f1_score", "F1", published=_llava(85.9, 85.9), note="yes read otherwise"),
            Metric("pope_accuracy", "accuracy"),
        ),
    ),
    Benchmark(
        "mmlu",
        "MMLU",
        "lm-eval",
        "mmlu",
        (Metric("acc", "accuracy", published=(("SynthVLM-7B", 41.2), ("LLaVA-7B", 36.3))),),
        few_shot=5,
        needs_login=False,
    ),
)


def choose_benchmarks(names: str) -> tuple[bool, list[Benchmark]]:
    """Whether easy-VQA is among names that are separated by commas, and the paper's among them.

    ``paper`` stands for all of the paper's.

    Raises:
        EvaluationError: A name is not known.
    """
    known = {one.name: one for one in PAPER}
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in (*known, EASY_VQA, "paper"):
            raise EvaluationError(
                f"there is no benchmark {name!r}: choose of paper, {EASY_VQA}, {', '.join(known)}"
            )
    is_all = "paper" in chosen
    return EASY_VQA in chosen, [one for one in PAPER if is_all or one.name in chosen]
