"""From answers to accuracies, with intervals and baselines, group by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from synthvlm.errors import EvaluationError
from synthvlm.evaluation.baselines import QuestionOnly, majority_answer
from synthvlm.evaluation.local import Asked
from synthvlm.evaluation.metrics import YesNo, pope_exact, pope_llava, score, yes_no
from synthvlm.evaluation.questions import Question
from synthvlm.intervals import Estimate, mean_interval, paired_difference, share_interval

__all__ = ["ALL", "GroupScores", "answer_scores", "scored"]

#: The group of all questions.
ALL = "all"


@dataclass(frozen=True, slots=True)
class GroupScores:
    """Scores of a group of questions, each 0 .. 1.

    Attributes:
        group: Its name; ``all`` for all questions.
        questions: How many.
        accuracy: The model's, with a 95 % interval.
        majority: Accuracy of the most frequent answer, given to every question.
        majority_answer: That answer.
        question_only: Accuracy of guesses from the question's wording; None: no training
            questions were given.
        blind: The model's without the images; None: not asked.
        gain: By how much the images help: accuracy less ``blind``, paired.
        yes_no: POPE's figures where all answers are yes or no, by way of reading.
    """

    group: str
    questions: int
    accuracy: Estimate
    majority: float
    majority_answer: str
    question_only: float | None = None
    blind: Estimate | None = None
    gain: Estimate | None = None
    yes_no: dict[str, YesNo] | None = None

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def answer_scores(asked: Asked) -> list[float]:
    """The score (0 .. 1) of each answer, in order."""
    return [score(text, one) for one, text in zip(asked.questions, asked.answers, strict=True)]


def scored(
    asked: Asked, training: Sequence[Question] = (), blind: Asked | None = None
) -> list[GroupScores]:
    """Scores of all questions, then of each group in the order of first sight.

    Args:
        asked: What the model answered.
        training: Questions that baselines may learn from; without them, the majority answer is
            that of the scored questions themselves.
        blind: What it answered to the same questions without the images.

    Raises:
        EvaluationError: ``blind`` is of other questions.
    """
    guesses = QuestionOnly(training) if training else None
    scores = answer_scores(asked)
    blinds = None
    if blind is not None:
        said = {one.id: text for one, text in zip(blind.questions, blind.answers, strict=True)}
        if set(said) != {one.id for one in asked.questions}:
            raise EvaluationError("images came or went during the evaluation: run it again")
        blinds = [score(said[one.id], one) for one in asked.questions]
    groups: dict[str, list[int]] = {ALL: list(range(len(scores)))}
    for row, question in enumerate(asked.questions):
        if question.group not in ("", ALL):
            groups.setdefault(question.group, []).append(row)
    return [
        _group(
            name,
            [asked.questions[row] for row in rows],
            [asked.answers[row] for row in rows],
            [scores[row] for row in rows],
            guesses,
            None if blinds is None else [blinds[row] for row in rows],
        )
        for name, rows in groups.items()
    ]


def _group(
    name: str,
    questions: Sequence[Question],
    answers: Sequence[str],
    scores: Sequence[float],
    guesses: QuestionOnly | None,
    blinds: Sequence[float] | None,
) -> GroupScores:
    if guesses is None:
        most = majority_answer(questions)
    else:
        most = guesses.majority(None if name == ALL else name)
    return GroupScores(
        group=name,
        questions=len(questions),
        accuracy=_mean(scores),
        majority=sum(score(most, one) for one in questions) / len(questions),
        majority_answer=most,
        question_only=None
        if guesses is None
        else sum(score(guesses.answer(one), one) for one in questions) / len(questions),
        blind=None if blinds is None else _mean(blinds),
        gain=None if blinds is None else paired_difference(scores, blinds),
        yes_no=_yes_no(questions, answers),
    )


def _mean(scores: Sequence[float]) -> Estimate:
    """Wilson's interval of right answers; Student's where answers are right in part."""
    if set(scores) <= {0.0, 1.0}:
        return share_interval(int(sum(scores)), len(scores))
    return mean_interval(scores)


def _yes_no(questions: Sequence[Question], answers: Sequence[str]) -> dict[str, YesNo] | None:
    truth = [pope_exact(one.answers[0]) for one in questions]
    if not all(truth) or any(len(one.answers) > 1 or one.choices for one in questions):
        return None
    return {
        "exact": yes_no([pope_exact(text) for text in answers], truth),
        "llava": yes_no([pope_llava(text) for text in answers], truth),
    }
