"""From answers to accuracies, with intervals, group by group.

Beside them stands what can be had without looking: constant answers, and guesses from the
question's wording.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from synthvlm.errors import EvaluationError
from synthvlm.estimates import Estimate, mean_interval, paired_difference, share_interval
from synthvlm.evaluation.local import Asked
from synthvlm.evaluation.metrics import (
    YesNo,
    normalize_answer,
    pope_exact,
    pope_llava,
    score,
    yes_no,
)
from synthvlm.evaluation.questions import Question

__all__ = ["ALL", "GroupScores", "QuestionOnly", "answer_scores", "majority_answer", "scored"]


def majority_answer(questions: Iterable[Question]) -> str:
    """The most frequent answer, of all annotators' if there are several; "" of no questions.

    Of those equally frequent it is the first in the alphabet.
    """
    counts: Counter[str] = Counter()
    spelled: dict[str, str] = {}
    for question in questions:
        for answer in question.answers:
            key = answer if question.choices else normalize_answer(answer)
            counts[key] += 1
            spelled.setdefault(key, answer)
    if not counts:
        return ""
    return spelled[min(counts, key=lambda answer: (-counts[answer], answer))]


class QuestionOnly:
    """Answers a question by its text: as most questions of that text were answered in training.

    A text that was never asked gets the most frequent answer of the group, or of all.
    """

    def __init__(self, training: Sequence[Question]) -> None:
        """Learn from training questions."""
        by_text: dict[tuple[str, str], list[Question]] = {}
        for question in training:
            for key in (("text", _wording(question)), ("group", question.group), ("all", "")):
                by_text.setdefault(key, []).append(question)
        self._answers = {key: majority_answer(some) for key, some in by_text.items()}

    def answer(self, question: Question) -> str:
        """The guess."""
        return self._answers.get(("text", _wording(question))) or self.majority(question.group)

    def majority(self, group: str | None = None) -> str:
        """The most frequent answer of a group; of all for None, and where it had no such group."""
        known = None if group is None else self._answers.get(("group", group))
        return known or self._answers.get(("all", ""), "")


def _wording(question: Question) -> str:
    """The text, and its choices if there are any: a letter means nothing without them."""
    return "\n".join(" ".join(part.lower().split()) for part in (question.text, *question.choices))


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
