"""From answers to scores, by their official definitions; and from scores to accuracies by group.

Beside the accuracies stands what can be had without looking: constant answers, and guesses from
the question's wording.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from synthvlm.errors import EvaluationError
from synthvlm.estimates import Estimate, mean_interval, paired_difference, share_interval
from synthvlm.evaluation.local import AnsweredQuestions
from synthvlm.evaluation.questions import Question

__all__ = [
    "ALL",
    "GroupScores",
    "QuestionOnly",
    "YesNo",
    "answer_scores",
    "chosen_letter",
    "exact_match",
    "majority_answer",
    "normalize_answer",
    "pope_exact",
    "pope_llava",
    "score",
    "score_groups",
    "vqa_accuracy",
    "yes_no",
]

_NUMBERS = {
    "none": "0",
    **{
        word: str(number)
        for number, word in enumerate(
            ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
        )
    },
}
_ARTICLES = {"a", "an", "the"}
_AUXILIARIES = (
    "ai are ca could did does do had has have is might must need ought sha should was were wo would"
)
#: Contractions that are no other word without their apostrophe ("its" and "were" are).
_ENDINGS = {
    "n't": _AUXILIARIES,
    "'ve": "could I might must should they we what who would you",
    "'s": "he how she that there what when where who why somebody someone",
    "'re": "they what why you",
    "'ll": "how it that they what who why you",
    "'d": "how it that there they where who you",
    "": "I'm y'all 'twas o'clock ma'am",
}
_CONTRACTIONS = {
    f"{word}{ending}".replace("'", "").lower(): f"{word}{ending}".lower()
    for ending, words in _ENDINGS.items()
    for word in words.split()
}
#: A period that is no decimal point ("1.5" and ".5" have one, "v.2" has none); a comma between
#: digits.
_PERIOD = re.compile(r"\.(?!\d)|(?<=[^\W\d_])\.")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d)")
#: Punctuation but for the apostrophe, the colon, and the decimal points that are left.
_PUNCTUATION = re.compile(r"[!\"#$%&()*+,\-/;<=>?@\[\\\]^_`{|}~]")
#: A letter alone, or one that begins the answer with a mark behind it: "B", "(B)", "B. a dog".
_LETTER = re.compile(r"\(?([A-Za-z])\)?(?:[.:),].*)?", re.DOTALL)


def normalize_answer(text: str) -> str:
    """An answer as VQA compares it.

    By the description of the VQA challenge (visualqa.org, "Evaluation code"): lower case, periods
    gone but in decimals, number words (none, zero to ten) to digits, articles gone, missing
    apostrophes of contractions added, punctuation but apostrophe and colon to spaces, no space
    for a comma between digits.
    """
    text = _PERIOD.sub("", _THOUSANDS.sub("", text.lower()))
    words = [_NUMBERS.get(word, word) for word in _PUNCTUATION.sub(" ", text).split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def exact_match(answer: str, truth: str) -> float:
    """1 if both are the same after ``normalize_answer``, else 0; an empty answer is wrong.

    Articles and punctuation alone are compared as they are, in any case: nothing is left of them.
    """
    return float(bool(answer.strip()) and _comparable(answer) == _comparable(truth))


def vqa_accuracy(answer: str, annotators: Sequence[str]) -> float:
    """VQA accuracy (0 .. 1): mean over annotators of min(1, agreeing others / 3).

    Antol et al., "VQA: Visual Question Answering", and its evaluation code: each annotator is
    left out once, and the answer is right by a third for each of the others who gave it. An
    empty answer is wrong; see ``exact_match`` for articles alone.
    """
    agree = [bool(exact_match(answer, other)) for other in annotators]
    agreeing = sum(agree)
    return sum(min(1.0, (agreeing - own) / 3) for own in agree) / len(agree)


def pope_llava(answer: str) -> str:
    """``yes`` or ``no`` as LLaVA's script for POPE reads it.

    In the first sentence, without commas, one of the words "No", "no", "not" is a no; anything
    else, an empty answer too, is a yes.
    """
    words = answer.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "no", "not"} & set(words) else "yes"


def pope_exact(answer: str) -> str:
    """``yes``, ``no``, or "" where the answer is not exactly one of them, in any case."""
    word = answer.strip().lower()
    return word if word in ("yes", "no") else ""


def chosen_letter(answer: str, choices: Sequence[str]) -> str:
    """The letter of the choice that an answer means, by its letter or its text; "" for none.

    By its very text first: normalised, "-5" and "5" are the same.
    """
    letter = _LETTER.fullmatch(answer.strip())
    if letter is not None and ord(letter[1].upper()) - ord("A") < len(choices):
        return letter[1].upper()
    for form in (_plain, normalize_answer):
        text, texts = form(answer), [form(choice) for choice in choices]
        if text and texts.count(text) == 1:
            return chr(ord("A") + texts.index(text))
    return ""


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _comparable(text: str) -> str:
    return normalize_answer(text) or _plain(text)


def score(answer: str, question: Question) -> float:
    """Score (0 .. 1) of an answer: by choice, by VQA accuracy, or by exact match.

    Which of them follows from the question: it has choices, the answers of annotators, or one.
    """
    if question.choices:
        return float(chosen_letter(answer, question.choices) == question.answers[0])
    if len(question.answers) > 1:
        return vqa_accuracy(answer, question.answers)
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
        "exact": yes_no([pope_exact(text) for text in answers], truth),
        "llava": yes_no([pope_llava(text) for text in answers], truth),
    }
