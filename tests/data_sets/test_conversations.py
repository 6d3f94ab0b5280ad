"""LLaVA JSON: what is read, and what is wrong with what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from synthvlm.data_sets.conversations import BadRecord, Conversation, Turn, read_conversations
from synthvlm.errors import CaptionSourceError

HUMAN = {"from": "human", "value": "What is it?\n<image>"}
GPT = {"from": "gpt", "value": "A dog."}
GOOD: dict[str, Any] = {"id": "a", "image": "0/a.png", "conversations": [HUMAN, GPT]}


def said(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


def written(path: Path, records: object) -> str:
    path.write_text(json.dumps(records))
    return str(path)


@pytest.mark.parametrize("lines", [False, True])
def test_list_and_lines_read_the_same(tmp_path: Path, lines: bool) -> None:
    text_only = {"id": 7, "conversations": said("Hi", "Hello", "Bye", "See you")}
    records = [GOOD, text_only]
    path = tmp_path / "data.json"
    path.write_text("\n\n".join(map(json.dumps, records)) if lines else json.dumps(records))
    first, second = read_conversations(str(path))
    where = f"{path}, record 1 (id a)"
    turns = (Turn("human", HUMAN["value"]), Turn("gpt", "A dog."))
    assert first == Conversation("a", "0/a.png", turns, where)
    assert isinstance(second, Conversation)
    assert (second.id, second.image, len(second.turns)) == ("7", None, 4)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (3, "no JSON object"),
        ({"id": "a"}, "no conversations"),
        ({**GOOD, "conversations": []}, "no conversations"),
        ({**GOOD, "conversations": [HUMAN, {"from": "gpt"}]}, "a turn is not"),
        ({**GOOD, "conversations": [HUMAN, {"from": "bot", "value": "x"}]}, "a turn is not"),
        ({**GOOD, "conversations": [GPT]}, "human, gpt, human"),
        ({**GOOD, "conversations": [GPT, GPT, HUMAN]}, "human, gpt, human"),
        ({**GOOD, "conversations": [HUMAN, GPT, GPT]}, "human, gpt, human"),
        ({**GOOD, "conversations": [HUMAN, {"from": "system", "value": "x"}]}, "a turn is not"),
        ({**GOOD, "conversations": said("What?", "A dog.")}, "but no <image>"),
        ({**GOOD, "conversations": [HUMAN, GPT, HUMAN, GPT]}, "in more than one turn"),
        ({"conversations": said("<image>", "A dog.")}, "but no image"),
        ({"conversations": said("Hi", "<image>")}, "in an answer"),
        ({**GOOD, "image": "/etc/passwd"}, "within the folder"),
        ({**GOOD, "image": "a/../../b.png"}, "within the folder"),
        ({**GOOD, "image": 3}, "within the folder"),
    ],
)
def test_bad_record_is_named_and_the_next_is_read(
    tmp_path: Path, record: object, problem: str
) -> None:
    bad, good = read_conversations(written(tmp_path / "data.json", [record, GOOD]))
    assert isinstance(bad, BadRecord)
    assert problem in bad.problem
    assert "data.json, record 1" in bad.where
    assert isinstance(good, Conversation)


@pytest.mark.parametrize("text", ["", "no json", '"text"', "[1", '{"id": ', "{} trailing"])
def test_no_json_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "data.json"
    path.write_text(text)
    with pytest.raises(CaptionSourceError) as found:
        list(read_conversations(str(path)))
    assert str(path) in str(found.value)
    assert "\n" not in str(found.value)


def test_an_id_forges_no_lines(tmp_path: Path) -> None:
    record = {"id": "a\r\n9 records: all\u2028is\x85well", "conversations": []}
    (bad,) = read_conversations(written(tmp_path / "data.json", [record]))
    assert isinstance(bad, BadRecord)
    assert bad.where.endswith("record 1 (id a 9 records: all is well)")


def test_broken_line_is_a_bad_record(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{{broken\n{json.dumps(GOOD)}\n")
    kinds = [type(record) for record in read_conversations(str(path))]
    assert kinds == [Conversation, BadRecord, Conversation]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_numbers_cut_characters_and_names_given_twice(tmp_path: Path, name: str) -> None:
    human, gpt = '{"from": "human", "value": "q"}', '{"from": "gpt", "value": "a"}'
    records = [
        '{"id": "1", "score": NaN, "conversations": [%s, %s]}' % (human, gpt),  # noqa: UP031
        '{"id": "2", "conversations": [%s, %s]}' % (human, gpt.replace('"a"', '"\\ud83d"')),  # noqa: UP031
        '{"id": "3", "id": "4", "conversations": [%s, %s]}' % (human, gpt),  # noqa: UP031
    ]
    between, ends = (", ", "[]") if name == "a.json" else ("\n", ("", ""))
    (tmp_path / name).write_text(ends[0] + between.join(records) + ends[1])
    first, second, third = read_conversations(str(tmp_path / name))
    assert isinstance(first, Conversation)
    assert first.id == "1"
    assert isinstance(second, BadRecord)
    assert isinstance(third, BadRecord)


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CaptionSourceError, match="cannot be read: No such file"):
        list(read_conversations(str(tmp_path / "none.json")))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8) | st.just("<image>"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "image", "conversations", "from"]), inner)
        | st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt"]), "value": inner})
        | st.fixed_dictionaries({"conversations": st.lists(inner, max_size=3), "image": inner})
    ),
    max_leaves=8,
)


@example(records=[{"conversations": [{"from": "human", "value": ""}], "image": None}])
@given(records=st.lists(VALUES, max_size=4))
def test_whatever_a_record_is_it_is_good_or_named(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any]
) -> None:
    path = tmp_path_factory.mktemp("wild") / "data.json"
    found = list(read_conversations(written(path, records)))
    assert len(found) == len(records)
    for record in found:
        if isinstance(record, Conversation):
            marks = sum(turn.text.count("<image>") for turn in record.turns)
            assert marks == (record.image is not None)
            # As LLaVA reads it: a last question may have no answer, and is not learned from.
            speakers = [turn.speaker for turn in record.turns]
            assert speakers == [("human", "gpt")[n % 2] for n in range(len(speakers))] != []
