"""Local question files: asked in batches, resumed, scored beside baselines."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from scipy import stats

from synthvlm.errors import EvaluationError
from synthvlm.evaluation.local import AnsweredQuestions, AnswerFile, ask, prompt
from synthvlm.evaluation.questions import Question, read_questions
from synthvlm.evaluation.results import local_rows
from synthvlm.evaluation.scoring import score_groups
from synthvlm.evaluation.settings import QuestionSettings
from synthvlm.progress.display import SilentProgress

IDENTITY = {"identity": "one"}


class Looker:
    """Tells the colour that it sees, "blind" without an image; and counts what it is asked."""

    def __init__(self, dies_after: int | None = None) -> None:
        self.asked: list[str] = []
        self._dies_after = dies_after

    def answer(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], *, max_new_tokens: int
    ) -> list[str]:
        assert max_new_tokens == 32
        if self._dies_after is not None and len(self.asked) >= self._dies_after:
            raise KeyboardInterrupt
        self.asked += questions
        names = {(255, 0, 0): "Red.", (0, 0, 255): "blue"}
        return ["blind" if one is None else names[one.getpixel((0, 0))] for one in images]


def _records() -> list[dict[str, Any]]:
    colours = ["red", "blue"] * 4
    return [
        {
            "id": f"q{row}",
            "image": f"{colour}.png",
            "question": f"colour {row % 3}?",
            "answer": colour if row != 3 else "teal",
            "group": "even" if row % 2 == 0 else "odd",
        }
        for row, colour in enumerate(colours)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for colour in ("red", "blue"):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{colour}.png")
    (tmp_path / "questions.json").write_text(json.dumps(_records()))
    return tmp_path


def _ask(folder: Path, model: Looker, **changes: Any) -> AnsweredQuestions:
    file = read_questions(str(folder / "questions.json"))
    identity, blind = changes.pop("identity", IDENTITY), changes.pop("blind", False)
    changes = {"suffix": "Short.", "batch_size": 3, **changes}
    settings = QuestionSettings(**changes)
    answers = folder / "out" / ("blind.jsonl" if blind else "answers.jsonl")
    return ask(
        *(model, identity, file, str(folder), answers, settings),
        blind=blind,
        progress=SilentProgress(),
    )


def test_questions_are_put_with_choices_and_what_answer_is_wanted() -> None:
    plain, choice = (
        Question("1", None, "why?", ("x",)),
        Question("2", None, "?", ("A",), ("x", "y")),
    )
    assert prompt(plain, QuestionSettings(suffix="Short.")) == "why?\nShort."
    assert prompt(plain, QuestionSettings(suffix="")) == "why?"
    settings = QuestionSettings(suffix="Short.", choice_suffix="Letter.")
    assert prompt(choice, settings) == "?\nA. x\nB. y\nLetter."


def test_all_questions_are_asked_and_scored_by_group(folder: Path) -> None:
    asked = _ask(folder, Looker())
    every, even, odd = score_groups(asked)
    assert (every.group, even.group, odd.group) == ("all", "even", "odd")
    assert [one.questions for one in (every, even, odd)] == [8, 4, 4]
    wilson = stats.binomtest(7, 8).proportion_ci(method="wilson")
    assert every.accuracy.value == 7 / 8
    assert (every.accuracy.low, every.accuracy.high) == pytest.approx((wilson.low, wilson.high))
    assert (even.accuracy.value, odd.accuracy.value) == (1.0, 3 / 4)
    # "red" is the answer to 4 of 8 questions, "blue" to 3 of the odd ones.
    assert (every.majority, every.majority_answer) == (1 / 2, "red")
    assert (odd.majority, odd.majority_answer) == (3 / 4, "blue")
    assert every.question_only is None


def test_an_interrupted_evaluation_goes_on_where_it_was(folder: Path) -> None:
    first = Looker(dies_after=3)
    with pytest.raises(KeyboardInterrupt):
        _ask(folder, first)
    with (folder / "out" / "answers.jsonl").open("ab") as stream:
        stream.write(b'{"id": "q3", "ans')  # what a crash leaves
    second = Looker()
    whole = _ask(folder, second)
    assert (len(first.asked), len(second.asked)) == (3, 5)
    assert whole == _ask(folder, third := Looker())
    assert third.asked == []
    (folder / "out" / "answers.jsonl").unlink()
    assert _ask(folder, Looker()) == whole


def test_a_limit_is_raised_without_asking_again(folder: Path) -> None:
    assert len(_ask(folder, Looker(), limit=2).questions) == 2
    assert len(_ask(folder, model := Looker()).questions) == 8
    assert len(model.asked) == 6
    assert len(_ask(folder, Looker(), limit=2).questions) == 2


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"identity": {"identity": "another"}}, "model"),
        ({"suffix": "Long."}, "suffix"),
        ({}, "questions"),
    ],
)
def test_answers_of_another_evaluation_are_refused(
    folder: Path, changes: dict[str, Any], named: str
) -> None:
    _ask(folder, Looker())
    before = (folder / "out" / "answers.jsonl").read_bytes()
    if named == "questions":
        (folder / "questions.json").write_text(json.dumps(_records()[:7]))
    with pytest.raises(EvaluationError, match=f"another {named}: give another --out"):
        _ask(folder, Looker(), **changes)
    assert (folder / "out" / "answers.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "text",
    ["my notes\n", '{"made_by": 3}\n', '{"made_by": {}}\n{"id": "1", "answer": 3}\n', "[]\n"],
)
def test_a_file_that_holds_something_else_is_not_overwritten(folder: Path, text: str) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "answers.jsonl").write_text(text)
    with pytest.raises(EvaluationError, match="no file of answers"):
        _ask(folder, Looker())
    assert (folder / "out" / "answers.jsonl").read_text() == text


def test_two_evaluations_do_not_write_one_file(folder: Path) -> None:
    path = folder / "answers.jsonl"
    first = AnswerFile(path, IDENTITY)
    first.add([("1", "red")])
    with pytest.raises(EvaluationError, match=r"another evaluation writes .* now: wait for it"):
        AnswerFile(path, IDENTITY)
    first.add([("2", "blue")])
    first.close()
    second = AnswerFile(path, IDENTITY)
    assert second.known == {"1": "red", "2": "blue"}
    second.close()


def test_images_that_cannot_be_opened_are_named_and_left_out(folder: Path) -> None:
    records = [*_records()[:2], {**GREEN, "id": "gone"}, {**GREEN, "id": "torn", "image": "t.png"}]
    (folder / "questions.json").write_text(json.dumps([*records, {"question": "?"}]))
    (folder / "t.png").write_bytes((folder / "red.png").read_bytes()[:40])
    asked = _ask(folder, Looker())
    assert [question.id for question in asked.questions] == ["q0", "q1"]
    problems = {bad.where.split(", ")[1]: bad.problem for bad in asked.bad}
    assert problems["record 5"] == "it has no answer"
    assert "No such file" in problems["id gone"]
    assert "cannot be used" in problems["id torn"]
    (folder / "questions.json").write_text(json.dumps(records[2:]))
    (folder / "out" / "answers.jsonl").unlink()
    with pytest.raises(EvaluationError, match="no question can be asked"):
        _ask(folder, Looker())


def test_a_pipe_among_the_images_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "green.png")
    (folder / "questions.json").write_text(json.dumps([*_records()[:1], {**GREEN, "id": "pipe"}]))
    asked = _ask(folder, Looker())
    assert len(asked.answers) == 1
    assert "is not a regular file" in asked.bad[0].problem


GREEN = {"image": "green.png", "question": "colour?", "answer": "green"}


def test_images_without_a_folder_are_refused(folder: Path) -> None:
    file = read_questions(str(folder / "questions.json"))
    with pytest.raises(EvaluationError, match="give their folder, --images"):
        ask(
            Looker(),
            IDENTITY,
            file,
            None,
            folder / "a.jsonl",
            QuestionSettings(),
            progress=SilentProgress(),
        )


def test_a_blind_model_is_asked_the_same_without_images(folder: Path) -> None:
    seen, unseen = _ask(folder, Looker()), _ask(folder, blind := Looker(), blind=True)
    assert unseen.answers == ("blind",) * 8
    assert len(blind.asked) == 8
    every = score_groups(seen, blind=unseen)[0]
    assert every.blind is not None
    assert every.gain is not None
    assert (every.blind.value, every.gain.value) == (0.0, 7 / 8)
    assert every.gain.low is not None
    assert 0.5 < every.gain.low < 7 / 8


def test_baselines_learn_from_training_questions_alone(folder: Path) -> None:
    training = [
        Question(str(row), None, text, (answer,), (), group)
        for row, (text, answer, group) in enumerate(
            [
                ("Colour 0?", "Blue", "even"),
                ("colour  0?", "blue", "even"),
                ("colour 0?", "red", "even"),
                ("colour 1?", "blue", "odd"),
                ("never asked", "teal", "odd"),
                ("never asked", "teal", "odd"),
            ]
        )
    ]
    every, even, odd = score_groups(_ask(folder, Looker()), training)
    # By hand. Wording: colour 0 (q0 red, q3 teal, q6 red) and colour 1 (q1 blue, q4 red, q7 blue)
    # are guessed blue; colour 2 was never asked: q2 (even) blue, as its group mostly is, q5 teal.
    assert every.question_only == 2 / 8
    assert (even.question_only, odd.question_only) == (0.0, 2 / 4)
    assert (every.majority_answer, even.majority_answer, odd.majority_answer) == (
        "Blue",
        "Blue",
        "teal",
    )
    assert (every.majority, even.majority, odd.majority) == (3 / 8, 0.0, 1 / 4)


def _rows(*groups: str) -> list[tuple[str, int | None]]:
    questions = tuple(Question(str(n), None, "?", ("x",), (), one) for n, one in enumerate(groups))
    found = score_groups(AnsweredQuestions(questions, ("x",) * len(groups), ()))
    return [(row.figure, row.questions) for row in local_rows("mine", found)]


def test_all_questions_are_a_row_unless_a_group_holds_them_all() -> None:
    assert _rows("g", "", "") == [("all", 3), ("g", 1)]
    assert _rows("g", "g") == [("g", 2)]
    assert _rows("allergy", "allergy") == [("allergy", 2)]
    assert _rows("", "") == _rows("all", "") == [("all", 2)]
    assert _rows("a", "b") == [("all", 2), ("a", 1), ("b", 1)]


def test_the_majority_of_all_is_not_that_of_questions_without_a_group() -> None:
    training = [
        Question(str(n), None, "?", (answer,), (), group)
        for n, (answer, group) in enumerate([("cat", ""), ("dog", "g"), ("dog", "g")])
    ]
    asked = AnsweredQuestions((Question("1", None, "new", ("dog",), (), "g"),), ("x",), ())
    assert score_groups(asked, training)[0].majority_answer == "dog"


def test_partly_right_answers_have_students_interval() -> None:
    questions = tuple(
        Question(str(row), None, "?", ("x",) * agreeing + ("y",) * (10 - agreeing))
        for row, agreeing in enumerate((0, 1, 2, 10))
    )
    found = score_groups(AnsweredQuestions(questions, ("x",) * 4, ()))[0].accuracy
    values = [0.0, 0.3, 0.6, 1.0]  # see the test of VQA accuracy
    low, high = stats.t.interval(0.95, 3, sum(values) / 4, stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
