"""The real harnesses, where they are installed: the same answers as the local evaluator."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from harness_tasks import (
    CHOICE,
    CHOICE_TASKS,
    COLOURS,
    QUESTIONS,
    YES_NO,
    image,
    write_choice,
    write_yes_no,
)
from transformers import AutoTokenizer, LlavaForConditionalGeneration

from random_llava import save_llava
from synthvlm.evaluation.benchmarks import Benchmark
from synthvlm.evaluation.evaluated_model import identify_model
from synthvlm.evaluation.evaluation import Evaluation
from synthvlm.evaluation.harness import HARNESS_PYTHON, HarnessResult, harness_versions
from synthvlm.evaluation.settings import EvaluationSettings
from synthvlm.models.vlm import VisionLanguageModel
from synthvlm.progress.display import SilentProgress

PYTHON = os.environ.get(HARNESS_PYTHON)
pytestmark = pytest.mark.skipif(
    PYTHON is None, reason=f"{HARNESS_PYTHON} names no python with lm-eval and lmms-eval"
)


def _run(model: Path, out: Path, benchmark: Benchmark, tasks: Path) -> HarnessResult:
    assert PYTHON is not None
    asked = identify_model(str(model), "cpu", "float32", None)
    evaluation = Evaluation(asked, out, EvaluationSettings(batch_size=3), SilentProgress())
    result, problem = evaluation.run_benchmark(PYTHON, benchmark, harness_versions(PYTHON), tasks)
    assert result is not None, problem
    # The second time it is not run again: this python could not.
    again, _ = evaluation.run_benchmark("/no/python", benchmark, harness_versions(PYTHON), tasks)
    assert again == result
    return result


def test_lmms_eval_gets_the_answers_that_the_local_evaluator_gets(tmp_path: Path) -> None:
    model = save_llava(tmp_path / "model")
    images = [None if colour is None else image(colour) for colour in COLOURS]
    answers = VisionLanguageModel(str(model)).answer(images, QUESTIONS, max_new_tokens=6)
    # The model's own answers are the key, but for two: one with an image, one without.
    answers[1], answers[2] = "wrong", "wrong"
    result = _run(model, tmp_path / "out", YES_NO, write_yes_no(tmp_path / "tasks", answers))
    assert result.values["exact_match"].value == pytest.approx(100 * 5 / 7)
    assert (result.questions, result.version) == (7, "1.5")


def test_lm_eval_takes_a_llava_for_questions_of_text(tmp_path: Path) -> None:
    folder = save_llava(tmp_path / "model")
    result = _run(folder, tmp_path / "out", CHOICE, write_choice(tmp_path / "tasks"))
    assert result.questions == 12
    right = 0
    for name, count in CHOICE_TASKS.items():
        for row in range(count):
            likely = [_log_likelihood(folder, f"{row} of {name}:", f" {one}") for one in "ABCD"]
            right += likely.index(max(likely)) == row % 4
    assert result.values["acc"].value == pytest.approx(100 * right / 12)


def _log_likelihood(folder: Path, text: str, continuation: str) -> float:
    """Of a continuation, by transformers alone."""
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    words = AutoTokenizer.from_pretrained(folder)
    before = len(words(text)["input_ids"])
    tokens = torch.tensor([words(text + continuation)["input_ids"]])
    with torch.no_grad():
        odds = model(tokens).logits.log_softmax(-1)[0]
    return sum(odds[at - 1, tokens[0, at]].item() for at in range(before, tokens.shape[1]))
