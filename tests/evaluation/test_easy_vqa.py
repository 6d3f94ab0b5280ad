"""easy-VQA: its groups and baselines, worked out again from the package's own files."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import easy_vqa
import pytest

from synthvlm.errors import MissingExtraError
from synthvlm.evaluation.easy_vqa import easy_vqa_images, easy_vqa_records, write_easy_vqa
from synthvlm.evaluation.local import AnsweredQuestions
from synthvlm.evaluation.questions import read_questions
from synthvlm.evaluation.scoring import GroupScores, score_groups

SHAPES = {"circle", "rectangle", "triangle"}


def _kind(answer: str) -> str:
    return "yes-no" if answer in {"yes", "no"} else "shape" if answer in SHAPES else "colour"


def _first(counts: Counter[str]) -> str:
    """The most frequent one; of those equally frequent the first in the alphabet."""
    return min(sorted(counts), key=lambda answer: -counts[answer])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, GroupScores]:
    """Scores of a model that answers everything by "no"."""
    files = write_easy_vqa(tmp_path_factory.mktemp("easy"))
    test, training = read_questions(files.questions), read_questions(files.training)
    assert test.bad == training.bad == ()
    asked = AnsweredQuestions(test.questions, ("No.",) * len(test.questions), ())
    return {scores.group: scores for scores in score_groups(asked, training.questions)}


def test_records_are_the_packages_questions_with_images_that_are_there(tmp_path: Path) -> None:
    records = easy_vqa_records("test")
    texts, answers, images = easy_vqa.get_test_questions()
    assert [one["question"] for one in records] == texts
    assert [one["answer"] for one in records] == answers
    paths = easy_vqa.get_test_image_paths()
    for one, image in zip(records, images, strict=True):
        assert Path(easy_vqa_images("test"), one["image"]) == Path(paths[image])
    files = write_easy_vqa(tmp_path)
    assert json.loads(Path(files.questions).read_text()) == records
    assert len(json.loads(Path(files.training).read_text())) == 38_575


def test_groups_and_baselines_are_those_counted_by_hand(found: dict[str, GroupScores]) -> None:
    texts, answers, _ = easy_vqa.get_test_questions()
    train_texts, train_answers, _ = easy_vqa.get_train_questions()
    wording: defaultdict[str, Counter[str]] = defaultdict(Counter)
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for text, answer in zip(train_texts, train_answers, strict=True):
        wording[text][answer] += 1
        kinds[_kind(answer)][answer] += 1
    for kind in ("yes-no", "shape", "colour"):
        rows = [
            (text, answer)
            for text, answer in zip(texts, answers, strict=True)
            if _kind(answer) == kind
        ]
        most = _first(kinds[kind])
        scores = found[kind]
        assert scores.questions == len(rows)
        assert scores.majority == pytest.approx(sum(a == most for _, a in rows) / len(rows))
        guessed = sum(_first(wording[text]) == answer for text, answer in rows)
        assert scores.question_only == pytest.approx(guessed / len(rows))


def test_its_yes_and_no_can_be_guessed_from_the_wording(found: dict[str, GroupScores]) -> None:
    scores = found["yes-no"]
    assert scores.question_only == pytest.approx(0.825, abs=0.0005)
    noes = easy_vqa.get_test_questions()[1].count("no") / scores.questions
    assert scores.accuracy.value == pytest.approx(noes)
    assert scores.yes_no is not None
    assert scores.yes_no["llava"].accuracy == pytest.approx(noes)
    assert scores.yes_no["exact"].accuracy == 0.0  # "No." is not exactly "no"
    assert found["colour"].yes_no is None


def test_without_the_package_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    modules: dict[str, Any] = sys.modules
    monkeypatch.setitem(modules, "easy_vqa", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'synthvlm\[easy-vqa\]'"):
        easy_vqa_records("test")
