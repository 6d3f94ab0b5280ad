"""Metrics against recorded cases, and cases worked out by hand from their definitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthvlm.evaluation.answers import chosen_letter, pope_exact, pope_llava, yes_or_no
from synthvlm.evaluation.questions import Question
from synthvlm.evaluation.scoring import YesNo, score, yes_no
from synthvlm.evaluation.vqa import exact_match, normalize_answer, vqa_accuracy

ANSWERS = Path(__file__).parent / "answers"


def cases(name: str) -> list[dict[str, Any]]:
    """Recorded answers, one a line."""
    return [json.loads(line) for line in (ANSWERS / name).read_text().splitlines()]


def test_answers_are_normalised_as_the_official_script_does() -> None:
    """What `vqaEval.py` of the VQA challenge itself gave of them."""
    for case in cases("vqa_normalised.jsonl"):
        assert normalize_answer(case["answer"]) == case["normalised"], case
        assert exact_match(case["answer"], case["answer"]) == 1.0


@given(st.text())
def test_normalising_anything_leaves_no_capitals_or_articles(text: str) -> None:
    words = normalize_answer(text).split()
    assert not {"a", "an", "the"} & set(words)


def test_an_empty_answer_is_wrong() -> None:
    assert exact_match("", "a") == 0.0
    assert exact_match("A", "a") == 1.0
    assert vqa_accuracy(" ", ["a"] * 10) == 0.0


def test_articles_and_punctuation_alone_are_compared_as_they_are() -> None:
    assert exact_match("the", "a") == exact_match("+", "-") == 0.0
    assert exact_match(" The", "the") == exact_match("-", "-") == 1.0
    assert vqa_accuracy("the", ["a"] * 10) == 0.0
    assert vqa_accuracy("A", ["a"] * 10) == 1.0


@pytest.mark.parametrize(
    ("agreeing", "expected"),
    [
        # Of 10 annotators k agree: for those k, k - 1 others do; for the other 10 - k, k do.
        (0, 0.0),
        (1, (1 * 0 + 9 * 1 / 3) / 10),
        (2, (2 * 1 / 3 + 8 * 2 / 3) / 10),
        (3, (3 * 2 / 3 + 7 * 1) / 10),
        (4, 1.0),
        (10, 1.0),
    ],
)
def test_vqa_accuracy_leaves_each_annotator_out_once(agreeing: int, expected: float) -> None:
    annotators = ["Two"] * agreeing + [f"other {row}" for row in range(10 - agreeing)]
    assert vqa_accuracy("2.", annotators) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "llava", "exact"),
    [
        ("Yes", "yes", "yes"),
        ("no ", "no", "no"),
        ("No, there is none.", "no", ""),
        ("There is not a dog. Yes", "no", ""),
        ("There is a dog. No cat", "yes", ""),
        ("NO", "yes", "no"),  # the script knows "No" and "no" only
        ("Yes.", "yes", ""),
        ("nothing", "yes", ""),
        ("", "yes", ""),
    ],
)
def test_yes_and_no_are_read_in_two_ways(answer: str, llava: str, exact: str) -> None:
    assert pope_llava(answer) == llava
    assert pope_exact(answer) == exact


def test_popes_figures() -> None:
    # By hand: 2 true "yes", 1 false "yes", 1 true "no", 1 unreadable answer to a "yes".
    answers, truth = ["yes", "yes", "yes", "no", ""], ["yes", "yes", "no", "no", "yes"]
    assert yes_no(answers, truth) == YesNo(
        3 / 5, pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3), 3 / 5
    )
    assert yes_no(["no"], ["yes"]) == YesNo(0.0, 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="no answers"):
        yes_no([], [])


def test_a_choice_is_meant_by_letter_or_text() -> None:
    for case in cases("multiple_choice.jsonl"):
        assert chosen_letter(case["answer"], case["choices"]) == case["means"], case


def test_yes_and_no_as_a_reader_takes_them() -> None:
    for case in cases("yes_no.jsonl"):
        assert yes_or_no(case["answer"]) == case["means"], case


@given(st.text(), st.lists(st.text(min_size=1), min_size=2, max_size=5))
def test_any_answer_means_one_of_the_choices_or_none(answer: str, choices: list[str]) -> None:
    assert chosen_letter(answer, choices) in {"", *"ABCDE"[: len(choices)]}
    assert yes_or_no(answer) in {"yes", "no", ""}


def test_a_question_says_how_it_is_scored() -> None:
    assert score("dog", Question("1", None, "?", ("B",), ("cat", "dog"))) == 1.0
    assert score("dog", Question("1", None, "?", ("dog",))) == 1.0
    for answer, points in (("Yes, it is.", 1.0), ("No", 0.0), ("I cannot tell", 0.0)):
        assert score(answer, Question("1", None, "?", ("Yes",))) == points
    four = Question("1", None, "?", ("dog", "dog", "cat", "cow"))
    assert score("dog", four) == pytest.approx((2 * 1 / 3 + 2 * 2 / 3) / 4)
