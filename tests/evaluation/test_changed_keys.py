"""Answers of an earlier release count on: what it did not know yet had its default in effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from synthvlm.errors import EvaluationError
from synthvlm.evaluation.evaluated_model import EvaluatedModel
from synthvlm.evaluation.evaluation import _is_done
from synthvlm.evaluation.local import AnswerFile
from synthvlm.evaluation.settings import SHORT_ANSWER, QuestionSettings, changed_keys

RECORD = {
    **EvaluatedModel("m", "content", "cpu", "float32", None).values(),
    "questions": "checksum",
    "blind": False,
    "suffix": SHORT_ANSWER,
    "max_new_tokens": 32,
}


def test_equal_records_differ_by_nothing() -> None:
    assert changed_keys(RECORD, dict(RECORD)) == []


@pytest.mark.parametrize("key", RECORD)
def test_a_key_that_differs_is_named(key: str) -> None:
    named = "model" if key == "identity" else key
    assert changed_keys(RECORD, {**RECORD, key: "another"}) == [named]


@pytest.mark.parametrize("key", ["suffix", "max_new_tokens", "revision"])
def test_a_setting_that_came_later_counts_by_its_default(key: str) -> None:
    earlier = {name: value for name, value in RECORD.items() if name != key}
    assert changed_keys(earlier, RECORD) == []
    assert changed_keys(RECORD, earlier) == []  # and so in a folder of a later release
    assert changed_keys(earlier, {**RECORD, key: "another"}) == [key]
    assert changed_keys({**RECORD, key: "another"}, earlier) == [key]


def test_what_identifies_the_model_cannot_be_lacking() -> None:
    assert changed_keys({}, {"identity": "content"}) == ["model"]


def test_of_versions_those_count_that_both_have() -> None:
    earlier = {"versions": {"torch": "2", "datasets": "4"}}
    assert changed_keys(earlier, {"versions": {"torch": "2", "lm-eval": "1"}}) == []
    assert changed_keys(earlier, {"versions": {"torch": "3"}}) == ["versions"]


def test_the_defaults_are_those_of_the_settings() -> None:
    settings = QuestionSettings()
    named = {name: getattr(settings, name) for name in ("suffix", "max_new_tokens", "limit")}
    assert changed_keys({}, named) == []


def test_a_file_of_answers_goes_on_with_a_new_setting(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    earlier = {name: value for name, value in RECORD.items() if name != "max_new_tokens"}
    lines: list[dict[str, Any]] = [{"made_by": earlier}, {"id": "1", "answer": "red"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    file = AnswerFile(path, RECORD)
    file.close()
    assert file.known == {"1": "red"}
    with pytest.raises(EvaluationError, match="with another max_new_tokens"):
        AnswerFile(path, {**RECORD, "max_new_tokens": 8})


def test_a_result_of_a_harness_counts_on(tmp_path: Path) -> None:
    made_by = {"identity": "content", "limit": None, "versions": {"torch": "2"}}
    (tmp_path / "made_by.json").write_text(json.dumps(made_by))
    later = {**made_by, "versions": {"torch": "2", "another": "1"}, "revision": None}
    assert _is_done(tmp_path, later)
    with pytest.raises(EvaluationError, match="with another limit"):
        _is_done(tmp_path, {**later, "limit": 5})
    (tmp_path / "made_by.json").write_text("[]")
    with pytest.raises(EvaluationError, match="is damaged"):
        _is_done(tmp_path, later)
