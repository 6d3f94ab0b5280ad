"""Data sets of messages, as JSON Lines and as Parquet, read like all others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthvlm.data_sets.conversations import (
    BadRecord,
    Conversation,
    Turn,
    conversation_of,
    read_conversations,
)
from synthvlm.data_sets.inputs import open_data_set, parse_input
from synthvlm.data_sets.pairs import BadPair, Entry, LoadedPair

USER = {"role": "user", "content": "<image>\nWhat is it?"}
ANSWER = {"role": "assistant", "content": "A dog."}
TURNS = (Turn("human", "<image>\nWhat is it?"), Turn("gpt", "A dog."))


def parts(*contents: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(contents)}


@pytest.mark.parametrize(
    "record",
    [
        # ms-swift, LLaMA-Factory
        {"messages": [USER, ANSWER], "images": ["a.png"]},
        {"messages": [USER, ANSWER], "images": "a.png"},
        {"messages": [USER, ANSWER], "images": [{"path": "a.png", "bytes": None}]},
        # TRL: no mark
        {"messages": [{"role": "user", "content": "What is it?"}, ANSWER], "images": ["a.png"]},
        # parts: Axolotl, the servers of models
        {
            "messages": [
                parts({"type": "image", "path": "a.png"}, {"type": "text", "text": "What is it?"}),
                {"role": "assistant", "content": [{"type": "text", "text": "A dog."}]},
            ]
        },
        {
            "messages": [parts({"type": "image"}, {"type": "text", "text": "What is it?"}), ANSWER],
            "images": ["a.png"],
        },
    ],
)
def test_every_convention_is_the_same_conversation(record: dict[str, Any]) -> None:
    found = conversation_of({"id": "r", **record}, "x.jsonl", 1)
    assert found == Conversation("r", "a.png", TURNS, "x.jsonl, record 1 (id r)")


@pytest.mark.parametrize(
    ("messages", "images", "problem"),
    [
        ([], ["a.png"], "no conversations"),
        ([USER, {"role": "tool", "content": "x"}], ["a.png"], "a message is not"),
        ([USER, {"role": "assistant", "content": 3}], ["a.png"], "a message is not"),
        ([USER, 3], ["a.png"], "a message is not"),
        ([parts({"type": "video"}), ANSWER], ["a.png"], "a message is not"),
        ([USER, ANSWER], [], "but no image"),
        ([USER, ANSWER], ["a.png", "b.png"], "more than one image"),
        ([USER, ANSWER], ["/etc/passwd"], "within the folder"),
        ([USER, ANSWER], ["../a.png"], "within the folder"),
        ([USER, {"role": "assistant", "content": "<image>"}], ["a.png"], "in an answer"),
        ([USER, {"role": "system", "content": "x"}, ANSWER], ["a.png"], "its turns are not"),
    ],
)
def test_a_bad_record_says_why(messages: Any, images: Any, problem: str) -> None:
    found = conversation_of({"messages": messages, "images": images}, "x.jsonl", 1)
    assert isinstance(found, BadRecord)
    assert problem in found.problem


def test_a_system_turn_is_kept_apart() -> None:
    system = {"role": "system", "content": "Be brief."}
    found = conversation_of({"messages": [system, USER, ANSWER], "images": ["a"]}, "x", 1)
    assert isinstance(found, Conversation)
    assert (found.system, found.turns) == ("Be brief.", TURNS)


def test_lines_with_images_beside_them(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(b"pixels")
    records = [
        {"messages": [USER, ANSWER], "images": ["images/a.png"]},
        {"messages": [USER, ANSWER, {"role": "user", "content": "?"}, ANSWER], "images": ["b.png"]},
        {"messages": [{"role": "user", "content": "Hi"}, ANSWER]},
    ]
    for name in ("train.jsonl", "validation.jsonl"):
        (tmp_path / name).write_text("".join(f"{json.dumps(record)}\n" for record in records))
    data_set = open_data_set(parse_input(str(tmp_path)))
    captions = list(data_set.captions())
    good = [one for one in captions if isinstance(one, Entry)]
    assert [(one.caption, one.split, one.more) for one in good] == [
        ("A dog.", "train", False),
        ("A dog.", "train", True),
        ("A dog.", "validation", False),
        ("A dog.", "validation", True),
    ]
    assert len(captions) == 6
    pairs = list(data_set.pairs())
    assert [one.image if isinstance(one, LoadedPair) else one.fault for one in pairs] == [
        b"pixels",
        "missing image",
    ] * 2


def test_parquet_with_the_images_in_it(tmp_path: Path) -> None:
    rows = [
        {"messages": [USER, ANSWER], "images": [{"bytes": b"one", "path": "a.png"}]},
        {"messages": [USER, ANSWER], "images": []},
        {"messages": [USER, ANSWER], "images": [{"bytes": b"x", "path": None}] * 2},
        {"messages": [ANSWER], "images": [{"bytes": b"x", "path": None}]},
        {"messages": [{"role": "user", "content": "Hi"}, ANSWER], "images": []},
    ]
    path = tmp_path / "messages.parquet"
    pq.write_table(
        pa.Table.from_pylist([{"id": str(n), **row} for n, row in enumerate(rows)]), path
    )
    data_set = open_data_set(parse_input(str(path)))
    captions = list(data_set.captions())
    assert [one.id if isinstance(one, Entry) else one.problem for one in captions] == [
        "0",
        "1",
        "2",
        "its turns are not human, gpt, human, gpt ...",
        "4",
    ]
    pairs = list(data_set.pairs())
    assert [one.image if isinstance(one, LoadedPair) else one.problem for one in pairs] == [
        b"one",
        "it has no image, or a URL for one",
        "it has 2 images, and a pair has one",
        "it has no image, or a URL for one",
    ]
    # For training, one without an image is as good.
    records = [record for record, _ in data_set.conversations()]  # type: ignore[attr-defined]
    kinds = [type(record) is Conversation for record in records]
    assert kinds == [True, False, False, False, True]


def test_messages_and_conversations_may_stand_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "mixed.json"
    llava = [{"from": "human", "value": "What?\n<image>"}, {"from": "gpt", "value": "A cat."}]
    records = [
        {"conversations": llava, "image": "b.png"},
        {"messages": [USER, ANSWER], "images": "a"},
    ]
    path.write_text(json.dumps(records))
    assert [type(one) for one in read_conversations(str(path))] == [Conversation] * 2


def test_bad_pairs_of_captions_are_no_pairs(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(
        json.dumps({"messages": [USER, {"role": "assistant", "content": " "}], "images": ["a"]})
    )
    (one,) = open_data_set(parse_input(str(path))).captions()
    assert isinstance(one, BadPair)
    assert one.problem == "the caption is empty"
