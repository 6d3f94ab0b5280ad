"""The settings of an evaluation, as the command line and Python give them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

__all__ = [
    "LETTER_ANSWER",
    "SHORT_ANSWER",
    "EvaluationSettings",
    "QuestionSettings",
    "changed_keys",
]

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


def changed_keys(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two records of an evaluation, each of all that its answers depend on.

    Keys are named as users know them: a model of another content is another ``model``.

    A key that only one of them has is of another release, where the setting was not there yet: it
    had its default in effect. Of versions those count that both have.
    """
    defaults = {field.name: field.default for field in fields(QuestionSettings)}
    changed = []
    for key in sorted({*earlier, *now}):
        before, after = (record.get(key, defaults.get(key)) for record in (earlier, now))
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            before, after = (
                {name: one[name] for name in before.keys() & after} for one in (before, after)
            )
        if before != after:
            changed.append("model" if key == "identity" else key)
    return changed
