"""The settings of an evaluation, as the command line and Python give them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LETTER_ANSWER", "SHORT_ANSWER", "EvaluationSettings", "QuestionSettings"]

#: What LLaVA-1.5 was trained with to answer short, and by letter.
SHORT_ANSWER = "Answer the question using a single word or phrase."
LETTER_ANSWER = "Answer with the option's letter from the given choices directly."


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSettings:
    """How a model is asked the questions of a benchmark.

    Attributes:
        suffix: Line after a question without choices; "" for none.
        choice_suffix: Line after the choices of one that has them; "" for none.
        max_new_tokens: Longest answer, in tokens.
        batch_size: Questions at a time.
        limit: Only the first so many questions of each benchmark; None for all.
    """

    suffix: str = SHORT_ANSWER
    choice_suffix: str = LETTER_ANSWER
    max_new_tokens: int = 32
    batch_size: int = 16
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings(QuestionSettings):
    """What a model is evaluated on, and how it is loaded and asked.

    Attributes:
        benchmarks: Names with commas between: ``easy-vqa``, ``paper``, or benchmarks of the paper.
        questions: A question file of one's own, or None.
        images: Folder of its images; None: no question has one.
        baseline_questions: Training questions that its baselines may learn from, or None.
        blind: Ask local questions without their images, too.
        device: A torch device or ``auto``.
        dtype: ``float32``, ``float16``, ``bfloat16`` or ``auto``.
        revision: Branch, tag or commit of the model on the hub, or None.
        harness_python: A python that has lmms-eval and lm-eval; None: the one that
            ``harness.harness_python`` finds or makes.
    """

    benchmarks: str = ""
    questions: str | None = None
    images: str | None = None
    baseline_questions: str | None = None
    blind: bool = False
    device: str = "auto"
    dtype: str = "auto"
    revision: str | None = None
    harness_python: str | None = None
