"""VQA's normalisation of answers, exact match and accuracy, as in its official script."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["ARTICLES", "NUMBER_WORDS", "exact_match", "normalize_answer", "vqa_accuracy"]

ARTICLES = {"a", "an", "the"}
#: Number words and their digits.
NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    )
}
_NUMBERS = {"none": "0", **NUMBER_WORDS}
#: The script's contractions; each is known without one of its apostrophes. It has no others.
_CONTRACTED = (
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's "
    "how'd how'll how's isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've "
    "o'clock oughtn't shan't should've shouldn't somebody'll somebody's someone'd someone'll "
    "someone's something'd something'll that's there'd there're there's they'd they'll they're "
    "they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's "
    "where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd "
    "you'll you're you've couldn't've hadn't've he'd've it'd've mightn't've 'ow's'at she'd've "
    "shouldn't've somebody'd've someone'd've something'd've there'd've they'd've we'd've who'd've "
    "wouldn't've y'all'll y'all'd've you'd've"
)
_CONTRACTIONS = {
    **{
        word[:at] + word[at + 1 :]: word
        for word in _CONTRACTED.split()
        for at in range(len(word))
        if word[at] == "'"
    },
    "somebody'd": "somebodyd",  # the other way round, as the script has it
}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_BETWEEN_DIGITS = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
#: The script hands ``re.UNICODE``, which is 32, to ``sub`` as the number of replacements.
_MOST_PERIODS = 32


def normalize_answer(text: str) -> str:
    """An answer as the official VQA script compares it.

    That is `processPunctuation`, then `processDigitArticle`, of its `vqaEval.py`.

    A mark of punctuation is removed where it stands beside a space anywhere in the answer, or where
    the answer has a comma between digits; else it becomes a space. Periods that no digit follows
    are removed, the first 32. Then lower case, number words (none, zero to ten) to digits, articles
    gone, and missing apostrophes of contractions added.
    """
    text = text.replace("\n", " ").replace("\t", " ").strip()
    has_comma = _BETWEEN_DIGITS.search(text) is not None
    plain = text
    for mark in _PUNCTUATION:
        gone = has_comma or f"{mark} " in text or f" {mark}" in text
        plain = plain.replace(mark, "" if gone else " ")
    words = _PERIOD.sub("", plain, count=_MOST_PERIODS).lower().split()
    numbers = [_NUMBERS.get(word, word) for word in words]
    return " ".join(_CONTRACTIONS.get(word, word) for word in numbers if word not in ARTICLES)


def exact_match(answer: str, truth: str) -> float:
    """1 if both are the same after ``normalize_answer``, else 0; an empty answer is wrong.

    Articles and punctuation alone are compared as they are, in any case: nothing is left of them.
    """
    return float(bool(answer.strip()) and _comparable(answer) == _comparable(truth))


def vqa_accuracy(answer: str, annotators: Sequence[str]) -> float:
    """VQA accuracy (0 .. 1): mean over annotators of min(1, agreeing others / 3).

    Antol et al., "VQA: Visual Question Answering", and its evaluation code: each annotator is
    left out once, and the answer is right by a third for each of the others who gave it. An
    empty answer is wrong; see ``exact_match`` for articles alone. The script leaves answers as they
    are where all annotators wrote the same; here they are normalised there as well.
    """
    agree = [bool(exact_match(answer, other)) for other in annotators]
    agreeing = sum(agree)
    return sum(min(1.0, (agreeing - own) / 3) for own in agree) / len(agree)


def _comparable(text: str) -> str:
    return normalize_answer(text) or " ".join(text.lower().split())
