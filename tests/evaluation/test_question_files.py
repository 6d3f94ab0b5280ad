"""Question files: what is read, and what of it is bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthvlm.errors import EvaluationError
from synthvlm.evaluation.questions import Question, read_questions

GOOD = {"question": "what?", "answer": "red"}


def _file(tmp_path: Path, *records: Any) -> str:
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(records))
    return str(path)


def test_a_list_and_json_lines_are_read_the_same(tmp_path: Path) -> None:
    records = [
        {"id": 7, "image": "a/b.png", "question": " what colour? ", "answer": "red", "group": "c"},
        {"question": "which?", "choices": ["cat", "dog"], "answer": "dog"},
        {"question": "which?", "choices": ["cat", "dog"], "answer": "b"},
        {"question": "how many?", "answer": ["2", "2", "two", "3"]},
    ]
    lines = tmp_path / "questions.jsonl"
    lines.write_text("\n".join(map(json.dumps, records)) + "\n\n")
    found = read_questions(_file(tmp_path, *records))
    assert found.questions == read_questions(str(lines)).questions
    assert found.questions == (
        Question("7", "a/b.png", "what colour?", ("red",), (), "c"),
        Question("2", None, "which?", ("B",), ("cat", "dog")),
        Question("3", None, "which?", ("B",), ("cat", "dog")),
        Question("4", None, "how many?", ("2", "2", "two", "3")),
    )
    assert not found.bad


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_numbers_cut_characters_and_names_given_twice(tmp_path: Path, name: str) -> None:
    records = [
        '{"question": "a", "answer": "b", "score": NaN}',
        '{"question": "a \\ud83d", "answer": "b"}',
        '{"question": "a", "answer": "b", "answer": "c"}',
    ]
    between, ends = (", ", "[]") if name == "a.json" else ("\n", ("", ""))
    (tmp_path / name).write_text(ends[0] + between.join(records) + ends[1])
    found = read_questions(str(tmp_path / name))
    assert [(one.id, one.answers) for one in found.questions] == [("1", ("b",))]
    assert [bad.problem for bad in found.bad] == [
        "it holds invalid UTF-8, or half of a surrogate pair",
        "it is not an object",
    ]


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ("what?", "not an object"),
        ({"answer": "red"}, "no question"),
        ({"question": " ", "answer": "red"}, "no question"),
        ({"question": "what?"}, "no answer"),
        ({"question": "what?", "answer": []}, "no answer"),
        ({"question": "what?", "answer": ["red", 3]}, "no answer"),
        ({"question": "what?", "answer": ["red", "blue"]}, "4 annotators or more"),
        ({"question": "<image>\nwhat?", "answer": "red"}, "holds <image>"),
        ({**GOOD, "image": 3}, "not a path"),
        ({**GOOD, "image": "/etc/passwd"}, "outside the images' folder"),
        ({**GOOD, "image": "a/../../b.png"}, "outside the images' folder"),
        ({**GOOD, "image": "..\\b.png"}, "outside the images' folder"),
        ({**GOOD, "group": 1}, "group is not a text"),
        ({**GOOD, "id": ["1"]}, "id is neither"),
        ({**GOOD, "choices": ["red"]}, "2 to 26 texts"),
        ({**GOOD, "choices": ["red", None]}, "2 to 26 texts"),
        ({**GOOD, "choices": ["blue", "teal"]}, "none of its choices"),
        ({**GOOD, "choices": ["b", "red"]}, "themselves letters"),
        ({"question": "?", "choices": ["x y", "z"], "answer": ["z", "z"]}, "more than one answer"),
        ({**GOOD, "choices": ["red", " Red"]}, "two of its choices are the same"),
        ({**GOOD, "id": "good"}, "used twice"),
    ],
)
def test_a_bad_record_is_named_and_spoils_no_other(
    tmp_path: Path, record: Any, problem: str
) -> None:
    path = _file(tmp_path, {**GOOD, "id": "good"}, record, {**GOOD, "id": "also good"})
    found = read_questions(path)
    assert [question.id for question in found.questions] == ["good", "also good"]
    assert len(found.bad) == 1
    assert found.bad[0].where.startswith(f"{path}, record 2")
    assert problem in found.bad[0].problem


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"[{]", b"\xff\xfe", b'[{"question": ""}]'])
def test_a_file_without_questions_is_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "questions.json"
    path.write_bytes(data)
    with pytest.raises(EvaluationError, match="questions") as raised:
        read_questions(str(path))
    assert "\n" not in str(raised.value)
    with pytest.raises(EvaluationError, match="cannot read the questions"):
        read_questions(str(tmp_path / "absent.json"))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=5,
)
_KEYS = st.sampled_from(["id", "image", "question", "answer", "choices", "group"])


@given(st.lists(st.dictionaries(_KEYS, _VALUES), max_size=4))
def test_every_record_is_good_or_named(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]
) -> None:
    path = _file(tmp_path_factory.mktemp("wild"), *records, {**GOOD, "id": "the last one"})
    found = read_questions(path)
    assert len(found.questions) + len(found.bad) == len(records) + 1
