"""What can be had without looking: constant answers, and guesses from the question's wording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from synthvlm.evaluation.metrics import normalize_answer
from synthvlm.evaluation.questions import Question

__all__ = ["QuestionOnly", "majority_answer"]


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
