"""Scores of an answer, by their official definitions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from synthvlm.evaluation.questions import Question

__all__ = [
    "YesNo",
    "chosen_letter",
    "exact_match",
    "normalize_answer",
    "pope_exact",
    "pope_llava",
    "score",
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
    agree = [bool(exact_match(answer, one)) for one in annotators]
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
    said = answer.strip().lower()
    return said if said in ("yes", "no") else ""


def chosen_letter(answer: str, choices: Sequence[str]) -> str:
    """The letter of the choice that an answer means, by its letter or its text; "" for none.

    By its very text first: normalised, "-5" and "5" are the same.
    """
    found = _LETTER.fullmatch(answer.strip())
    if found is not None and ord(found[1].upper()) - ord("A") < len(choices):
        return found[1].upper()
    for form in (_plain, normalize_answer):
        said, texts = form(answer), [form(choice) for choice in choices]
        if said and texts.count(said) == 1:
            return chr(ord("A") + texts.index(said))
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


def yes_no(said: Sequence[str], truth: Sequence[str]) -> YesNo:
    """POPE's figures (Li et al., 2023) of n answers, read as ``yes``, ``no`` or neither.

    Raises:
        ValueError: There are none, or their numbers differ.
    """
    pairs = list(zip(said, truth, strict=True))
    if not pairs:
        raise ValueError("no answers")
    both = pairs.count(("yes", "yes"))
    positive, wanted = said.count("yes"), truth.count("yes")
    precision, recall = both / max(1, positive), both / max(1, wanted)
    return YesNo(
        accuracy=sum(one == other for one, other in pairs) / len(pairs),
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / (precision + recall) if both else 0.0,
        yes_share=positive / len(pairs),
    )
