"""From answers to scores, by their official definitions; and from scores to accuracies by group.

Beside the accuracies stands what can be had without looking: constant answers, and guesses from
the question's wording.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from synthvlm.errors import EvaluationError
from synthvlm.estimates import Estimate, mean_interval, paired_difference, share_interval
from synthvlm.evaluation.answers import chosen_letter, pope_exact, pope_llava, yes_or_no
from synthvlm.evaluation.local import AnsweredQuestions
from synthvlm.evaluation.questions import Question
from synthvlm.evaluation.vqa import exact_match, normalize_answer, vqa_accuracy

__all__ = [
    "ALL",
    "GroupScores",
    "QuestionOnly",
    "YesNo",
    "answer_scores",
    "majority_answer",
    "score",
    "score_groups",
    "yes_no",
]


def score(answer: str, question: Question) -> float:
    """Score (0 .. 1) of an answer: by choice, by VQA accuracy, as yes or no, or by exact match.

    Which of them follows from the question: it has choices, the answers of annotators, or one.
    """
    if question.choices:
        return float(chosen_letter(answer, question.choices) == question.answers[0])
    if len(question.answers) > 1:
        return vqa_accuracy(answer, question.answers)
    truth = pope_exact(question.answers[0])
    if truth:
        return float(yes_or_no(answer) == truth)
    return exact_match(answer, question.answers[0])


@dataclass(frozen=True, slots=True)
class YesNo:
    """POPE's figures, each 0 .. 1; "yes" is the positive class.

    Attributes:
        accuracy: Share of right answers.
        precision: Of what was answered "yes"; 0 where nothing was.
        recall: Of what is "yes"; 0 where nothing is.
        f1: Harmonic mean of the two.
        yes_share: Share of questions that were answered "yes".
    """

    accuracy: float
    precision: float
    recall: float
    f1: float
    yes_share: float


def yes_no(answers: Sequence[str], truth: Sequence[str]) -> YesNo:
    """POPE's figures (Li et al., 2023) of n answers, read as ``yes``, ``no`` or neither.

    Raises:
        ValueError: There are none, or their numbers differ.
    """
    pairs = list(zip(answers, truth, strict=True))
    if not pairs:
        raise ValueError("no answers")
    both = pairs.count(("yes", "yes"))
    answered, true = answers.count("yes"), truth.count("yes")
    precision, recall = both / max(1, answered), both / max(1, true)
    return YesNo(
        accuracy=sum(answer == right for answer, right in pairs) / len(pairs),
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / (precision + recall) if both else 0.0,
        yes_share=answered / len(pairs),
    )


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
        self._answers = {key: majority_answer(group) for key, group in by_text.items()}

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


def answer_scores(answered: AnsweredQuestions) -> list[float]:
    """The score (0 .. 1) of each answer, in order."""
    pairs = zip(answered.answers, answered.questions, strict=True)
    return [score(answer, question) for answer, question in pairs]


def score_groups(
    answered: AnsweredQuestions,
    training: Sequence[Question] = (),
    blind: AnsweredQuestions | None = None,
) -> list[GroupScores]:
    """Scores of all questions, then of each group in the order of first sight.

    Args:
        answered: What the model answered.
        training: Questions that baselines may learn from; without them, the majority answer is
            that of the scored questions themselves.
        blind: What it answered to the same questions without the images.

    Raises:
        EvaluationError: ``blind`` is of other questions.
    """
    guesses = QuestionOnly(training) if training else None
    scores = answer_scores(answered)
    blind_scores = None
    if blind is not None:
        pairs = zip(blind.questions, blind.answers, strict=True)
        blind_answers = {question.id: answer for question, answer in pairs}
        if set(blind_answers) != {question.id for question in answered.questions}:
            raise EvaluationError("images came or went during the evaluation: run it again")
        blind_scores = [score(blind_answers[one.id], one) for one in answered.questions]
    groups: dict[str, list[int]] = {ALL: list(range(len(scores)))}
    for row, question in enumerate(answered.questions):
        if question.group not in ("", ALL):
            groups.setdefault(question.group, []).append(row)
    return [
        _group(
            name,
            [answered.questions[row] for row in rows],
            [answered.answers[row] for row in rows],
            [scores[row] for row in rows],
            guesses,
            None if blind_scores is None else [blind_scores[row] for row in rows],
        )
        for name, rows in groups.items()
    ]


def _group(
    name: str,
    questions: Sequence[Question],
    answers: Sequence[str],
    scores: Sequence[float],
    guesses: QuestionOnly | None,
    blind_scores: Sequence[float] | None,
) -> GroupScores:
    if guesses is None:
        constant = majority_answer(questions)
    else:
        constant = guesses.majority(None if name == ALL else name)
    return GroupScores(
        group=name,
        questions=len(questions),
        accuracy=_mean(scores),
        majority=sum(score(constant, one) for one in questions) / len(questions),
        majority_answer=constant,
        question_only=None
        if guesses is None
        else sum(score(guesses.answer(one), one) for one in questions) / len(questions),
        blind=None if blind_scores is None else _mean(blind_scores),
        gain=None if blind_scores is None else paired_difference(scores, blind_scores),
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
        "read": yes_no([yes_or_no(text) for text in answers], truth),
        "exact": yes_no([pope_exact(text) for text in answers], truth),
        "llava": yes_no([pope_llava(text) for text in answers], truth),
    }
