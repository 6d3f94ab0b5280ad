"""The advice of a field for captions: by its name and its texts, or none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from reading import Read

from synthvlm.captions.readers.likely_fields import likely_field
from synthvlm.errors import CaptionSourceError

LICENCES = [{"url": "http://l.example", "id": n, "name": f"Licence {n}"} for n in range(3)]
PICTURES = [{"id": n, "file_name": f"{n}.jpg", "url": "http://u.example"} for n in range(3)]
QUESTIONS = [{"question_id": n, "question": f"What is in picture {n}?"} for n in range(3)]
SIZES = [{"id": n, "name": name, "supercategory": "x"} for n, name in enumerate("abc")]

ANSWER = "It is a red bus."
SPLIT = {"columns": ["id", "caption"], "index": [0], "data": [[0, "a red bus"]]}


@pytest.mark.parametrize(
    ("name", "content", "end"),
    [
        (
            "nocaps.json",
            {"licenses": LICENCES, "images": PICTURES},
            "only 'licenses.url', 'name', 'file_name', 'images.url'; no field looks like captions",
        ),
        (
            "instances.json",
            {"licenses": LICENCES, "images": PICTURES, "categories": SIZES},
            "; no field looks like captions",
        ),
        (
            "vqa.json",
            {"task_type": "Open-Ended", "licenses": LICENCES, "questions": QUESTIONS},
            "; if 'question' holds the captions, add --set sources.0.text_field=question",
        ),
        (
            "split.json",
            SPLIT,
            "pandas wrote it with orient='split'; write it with orient='records'",
        ),
        (
            "gqa.json",
            {"1": {"isBalanced": True, "question": "Is it red?"}},
            "; if 'question' holds the captions, add --set sources.0.text_field=question",
        ),
        (
            "artemis.csv",
            "art_style,emotion,utterance\nCubism,awe,It looks like a dream\n",
            "; if 'utterance' holds the captions, add --set sources.0.text_field=utterance",
        ),
        (
            "wit.tsv",
            "language\tpage_url\tcaption_reference_description\nen\thttp://u\tA boat on a lake\n",
            " add --set sources.0.text_field=caption_reference_description",
        ),
        ("none.csv", "x,url\n1,http://u\n", "only 'x', 'url'; no field looks like captions"),
    ],
)
def test_the_advised_field_looks_like_captions(
    tmp_path: Path, name: str, content: object, end: str
) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    with pytest.raises(CaptionSourceError) as caught:
        Read(tmp_path, name, text)
    assert str(caught.value).endswith(end)


@pytest.mark.parametrize(
    "given", ["It is a red bus.", [{"type": "text", "text": "It is a red bus."}]]
)
def test_of_messages_the_answer_is_the_caption(tmp_path: Path, given: object) -> None:
    turns = [{"role": "user", "content": "Describe it."}, {"role": "assistant", "content": given}]
    items = json.dumps([{"messages": turns, "id": "7"}])
    assert Read(tmp_path, "a.json", items).texts == [ANSWER]
    talk = Read(tmp_path, "b.json", items.replace("messages", "talk"))
    assert (talk.captions[0].problem or "").endswith("add --set sources.0.text_field=talk")
    named = Read(tmp_path, "b.json", items.replace("messages", "talk"), text_field="talk")
    assert named.texts == [ANSWER]
    (unanswered,) = Read(tmp_path, "c.json", items.replace("assistant", "tool")).captions
    assert (unanswered.problem or "").endswith("the conversation has no turn of the assistant")


def test_the_texts_of_a_field_count_more_than_its_place() -> None:
    texts = {"a": ["cat", "dog", "cow"], "b": ["A cat on a mat", "A dog at sea", "A cow in a barn"]}
    assert likely_field(texts) == "b"
    assert likely_field({"a": texts["a"], "url": ["http://u"]}) is None
    assert likely_field({"text": ["1", "2", "3"], **texts}) == "b"
    assert likely_field({"x": ["猫が机の上で眠っている"] * 2}) == "x"
