"""Metrics against cases worked out by hand from their definitions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthvlm.evaluation.questions import Question
from synthvlm.evaluation.scoring import (
    YesNo,
    chosen_letter,
    exact_match,
    normalize_answer,
    pope_exact,
    pope_llava,
    score,
    vqa_accuracy,
    yes_no,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Worked out by hand from the VQA challenge's description of its processing.
        ("The Red", "red"),
        ("A dog and an owl.", "dog and owl"),
        ("two", "2"),
        ("None", "0"),
        ("ten o'clock", "10 o'clock"),
        ("oclock", "o'clock"),
        ("1.5", "1.5"),
        (".5", ".5"),
        ("$.50", ".50"),
        ("v.2", "v2"),
        ("U.S.A.", "usa"),
        ("v. 2.", "v 2"),
        ("100,978", "100978"),
        ("red, blue", "red blue"),
        ("black-white", "black white"),
        ("rock/roll?", "rock roll"),
        ("dont", "don't"),
        ("Its a girl's", "its girl's"),
        ("cant, wont", "can't won't"),
        ("10:30", "10:30"),
        ("  many\n\twords ", "many words"),
        ("eleven", "eleven"),
    ],
)
def test_answers_are_normalised_as_vqa_describes(text: str, expected: str) -> None:
    assert normalize_answer(text) == expected
    assert exact_match(text, expected) == 1.0


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


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(b)", "B"),
        ("B.", "B"),
        ("C. a red dog", "C"),
        ("A) because\nof this", "A"),
        ("a cat", "A"),
        ("The Red Dog", "C"),
        ("D", ""),
        ("bird or cat", ""),
        ("A cat is it", ""),
        ("", ""),
    ],
)
def test_a_choice_is_meant_by_letter_or_text(answer: str, letter: str) -> None:
    assert chosen_letter(answer, ["cat", "bird", "a red dog"]) == letter


@pytest.mark.parametrize(
    ("answer", "choices", "letter"),
    [
        ("-", ["+", "-"], "B"),
        ("-5", ["5", "-5"], "B"),
        ("five", ["5", "-5"], ""),  # normalised it is both
        ("The cat", ["a cat", "the cat"], "B"),
        ("cat", ["a cat", "the cat"], ""),
        ("?", ["+", "-"], ""),
    ],
)
def test_choices_that_are_normalised_alike_are_told_apart_by_their_text(
    answer: str, choices: list[str], letter: str
) -> None:
    assert chosen_letter(answer, choices) == letter


def test_a_question_says_how_it_is_scored() -> None:
    assert score("dog", Question("1", None, "?", ("B",), ("cat", "dog"))) == 1.0
    assert score("dog", Question("1", None, "?", ("dog",))) == 1.0
    four = Question("1", None, "?", ("dog", "dog", "cat", "cow"))
    assert score("dog", four) == pytest.approx((2 * 1 / 3 + 2 * 2 / 3) / 4)
