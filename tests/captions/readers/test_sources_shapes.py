"""JSON as others write and publish it: every shape, NaN, cut characters, names given twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from synthvlm.captions.readers.sources import read_captions, read_images
from synthvlm.data import Caption
from synthvlm.errors import CaptionSourceError

ANNOTATIONS = [{"image_id": 9, "id": n, "caption": text} for n, text in enumerate("ab")]


def write(folder: Path, content: object, name: str = "f.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read(path: Path, **options: Any) -> list[Caption]:
    options = {"place": "sources.1", **options}
    return list(read_captions(path, name="web", normalize=str, **options))


def rows(path: Path, **options: Any) -> list[tuple[str, str]]:
    captions = read(path, **options)
    assert [caption.problem for caption in captions] == [None] * len(captions)
    return [(caption.id, caption.text) for caption in captions]


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(CaptionSourceError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(str(path))


#: Of each: what the file holds, options, and the rows.
SHAPES: dict[str, tuple[object, dict[str, Any], list[tuple[str, str]]]] = {
    "texts": (["a", "b"], {}, [("web-0", "a"), ("web-1", "b")]),
    "lists of texts": ([["a", ["b"]], ["c"]], {}, [("web-0", "a"), ("web-1", "b"), ("web-2", "c")]),
    "an object": ({"caption": "a", "id": 5}, {}, [("5", "a")]),
    "objects with lists": (
        [{"id": 7, "caption": ["a", "b"]}, {"id": 8, "caption": "c"}],
        {},
        [("7-0", "a"), ("7-1", "b"), ("8", "c")],
    ),
    "nested, by its last name": (
        [{"id": 7, "regions": [{"phrase": "a"}, {"phrase": "b"}]}, {"id": 8, "regions": []}],
        {"text_field": "phrase"},
        [("7-0", "a"), ("7-1", "b"), ("8", "")],
    ),
    "nested, with ids of its own": (
        [{"sentences": [{"raw": "a", "sentid": 3}, {"raw": "b", "sentid": 4}]}],
        {"text_field": "sentences[].raw", "id_field": "sentences[].sentid"},
        [("3", "a"), ("4", "b")],
    ),
    "two levels": (
        {"images": [{"imgid": 3, "parts": [{"texts": ["a", "b"]}, {"texts": ["c"]}]}]},
        {"text_field": "parts.texts"},
        [("3-0", "a"), ("3-1", "b"), ("3-2", "c")],
    ),
    "captions by id": (
        {"x": "a", "y": ["b", "c"]},
        {},
        [("x", "a"), ("y-0", "b"), ("y-1", "c")],
    ),
    "objects by id": (
        {"x": {"caption": "a"}, "y": {"caption": "b"}},
        {},
        [("x", "a"), ("y", "b")],
    ),
    "objects by id, another field": (
        {"a.png": {"se": 1, "p": "a castle"}, "b.png": {"se": 2, "p": "a dog"}},
        {"text_field": "p"},
        [("a.png", "a castle"), ("b.png", "a dog")],
    ),
    "parallel lists": (
        {"id": [5, 6], "captions": ["a", "b"], "url": ["u", "v"]},
        {"text_field": "captions"},
        [("5", "a"), ("6", "b")],
    ),
    "columns of pandas": (
        {"id": {"0": "x", "1": "y"}, "caption": {"0": "a", "1": "b"}},
        {},
        [("x", "a"), ("y", "b")],
    ),
    "rows of a data server": (
        {"features": [{"name": "caption"}], "rows": [{"row_idx": 0, "row": {"caption": "a"}}]},
        {},
        [("web-0", "a")],
    ),
    "one list of several": (
        {"train": [{"caption": "a"}], "val": [{"caption": "b"}]},
        {"text_field": "val.caption"},
        [("web-0", "b")],
    ),
    "the first list of several": (
        {"train": [{"caption": "a"}], "val": [{"caption": "b"}]},
        {"text_field": "train.caption"},
        [("web-0", "a")],
    ),
    "COCO": (
        {"info": {"year": 2017}, "images": [{"id": 9, "file_name": "9.jpg"}], "licenses": [],
         "annotations": ANNOTATIONS},
        {},
        [("0", "a"), ("1", "b")],
    ),
    "COCO, annotations first": ({"annotations": ANNOTATIONS, "images": []}, {},
                                [("0", "a"), ("1", "b")]),
    "Karpathy": (
        {"images": [{"filename": "9.jpg", "imgid": 2, "split": "train", "sentids": [0, 1],
                     "sentences": [{"tokens": ["a"], "raw": "a", "imgid": 2, "sentid": 0},
                                   {"tokens": ["b"], "raw": "b", "imgid": 2, "sentid": 1}]}],
         "dataset": "flickr30k"},
        {"text_field": "raw"},
        [("2-0", "a"), ("2-1", "b")],
    ),
    "Visual Genome": (
        [{"id": 1, "regions": [{"region_id": 1382, "image_id": 1, "phrase": "a", "x": 0}]}],
        {"text_field": "phrase"},
        [("1-0", "a")],
    ),
    "SBU": (
        {"image_urls": ["http://u.example/1"], "user_ids": ["x"], "captions": ["a"]},
        {"text_field": "captions"},
        [("web-0", "a")],
    ),
    "LLaVA": (
        [{"id": "7", "image": "7.jpg", "conversations": [
            {"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "a"}]},
         {"id": "8", "conversations": [
             {"from": "human", "value": "What?"}, {"from": "gpt", "value": "b"}]}],
        {},
        [("7", "a")],
    ),
    "LLaVA without images": (
        [{"id": "8", "conversations": [
            {"from": "human", "value": "What?"}, {"from": "gpt", "value": "b"}]}],
        {},
        [("8", "b")],
    ),
    "BLIP captions of LLaVA": (
        [{"id": "1", "image": "1.jpg", "blip_caption": "a", "url": "http://u.example"}],
        {"text_field": "blip_caption"},
        [("1", "a")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("indent", [None, 1])
def test_every_shape(tmp_path: Path, shape: str, indent: int | None) -> None:
    content, options, expected = SHAPES[shape]
    text = json.dumps(content, indent=indent)
    assert rows(write(tmp_path, text), **options) == expected
    # A document in a file of JSON lines is read all the same.
    if isinstance(content, list) or indent:
        assert rows(write(tmp_path, text, "f.jsonl"), **options) == expected
    mark_and_crlf = b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()
    (tmp_path / "dos.json").write_bytes(mark_and_crlf)
    assert rows(tmp_path / "dos.json", **options) == expected


def test_json_lines_by_any_name(tmp_path: Path) -> None:
    lines = '{"caption": "a"}\n\n{"caption": ["b", "c"], "id": 1}\n'
    expected = [("web-0", "a"), ("web-1", ""), ("1-0", "b"), ("1-1", "c")]
    for name in ("f.json", "f.jsonl"):
        assert rows(write(tmp_path, lines, name)) == expected
    bad = read(write(tmp_path, '{"caption": "a\n{"caption": "b"}\n'))
    assert [caption.text for caption in bad] == ["", "b"]
    turns = {"conversations": [{"from": "gpt", "value": "a"}], "id": "7"}
    lines = (json.dumps(turns) + "\n") * 2
    for options in ({}, {"format": "llava"}):
        assert rows(write(tmp_path, lines, "f.jsonl"), **options) == [("7", "a")] * 2


def test_captions_by_id_are_read_in_any_number(tmp_path: Path) -> None:
    content = {f"img{n}": [f"a{n}", f"b{n}"] for n in range(3000)}
    found = rows(write(tmp_path, content))
    assert found == [(f"img{n}-{k}", f"{x}{n}") for n in range(3000) for k, x in enumerate("ab")]


def test_what_is_no_caption_is_not_taken_for_one(tmp_path: Path) -> None:
    for content in ({"title": "x", "licence": "y"}, {"name": "x"}, {"info": {}, "url": "u"},
                    {"image_urls": ["u"], "captions": ["a"]}):  # fmt: skip
        assert "this JSON object holds no 'caption'" in refusal(write(tmp_path, content))
    problem = read(write(tmp_path, [[1, "a"], {"caption": ["a", 2, None]}]))
    assert [caption.problem for caption in problem] == [
        "item 1: not a JSON object",
        None,
        "item 2: 'caption' must be a string, not a number",
        "item 2: 'caption' must be a string, not null",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": [{"imgid": 0, "sentences": [{"raw": "a"}]}]}, "text_field=sentences.raw"),
        ({"image_urls": ["u"], "captions": ["a"]}, "text_field=captions"),
        ({"id": [1, 2], "caption": ["a"]}, "'caption' has 1 values and 'id' has 2"),
        (
            {"train": [{"caption": "a"}], "val": [{"caption": "b"}]},
            "two lists hold 'caption', 'train' and 'val'; name one of them: "
            "--set sources.1.text_field=train.caption",
        ),
        ('{"annotations": [], "annotations": [{"caption": "a"}]}', "are named 'annotations'"),
        ('{"annotations": [{"caption": "a"}, {"caption"', "line 1, column 46: invalid JSON: unex"),
    ],
)
def test_a_refusal_ends_in_what_mends_it(tmp_path: Path, content: object, message: str) -> None:
    text = refusal(write(tmp_path, content))
    assert message in text
    if "text_field=" in message:
        assert "--set sources.1.text_field=" in text


def test_a_format_that_does_not_fit_names_the_one_that_looks(tmp_path: Path) -> None:
    path = write(tmp_path, [{"caption": "a"}])
    assert refusal(path, format="coco").endswith("by the content: --set sources.1.format=json")
    (odd,) = read(path, format="llava")
    assert (odd.problem or "").endswith("by the content: --set sources.1.format=json")
    assert rows(path, format="json") == [("web-0", "a")]


def test_conversations_by_their_field(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    path = write(tmp_path, [{"talk": turns, "id": 4}])
    (odd,) = read(path)
    assert (odd.problem or "").endswith("--set sources.1.text_field=talk")
    assert rows(path, text_field="talk") == [("4", "a")]


def test_a_missing_field_names_the_setting(tmp_path: Path) -> None:
    (odd,) = read(write(tmp_path, [{"Prompt": "a", "id": "1", "url": "u"}]))
    assert odd.problem == (
        "item 1: there is no field 'caption' (found: 'Prompt', 'id', 'url'); if 'Prompt' holds the "
        "captions, add --set sources.1.text_field=Prompt"
    )
    (odd,) = read(write(tmp_path, [{"x": {"my text": "a"}}]))
    assert (odd.problem or "").endswith("--set 'sources.1.text_field=\"x.my text\"'")
    assert rows(tmp_path / "f.json", text_field="x.my text") == [("web-0", "a")]
    (odd,) = read(write(tmp_path, [{"caption": "a", "key": "1"}]), id_field="kee")
    assert (odd.problem or "").endswith(
        "did you mean 'key'? (to number the rows: --set sources.1.id_field=null)"
    )


def test_numbers_and_characters_of_other_fields_cost_no_caption(tmp_path: Path) -> None:
    lines = [
        '{"caption": "a", "x": NaN, "y": [Infinity, -Infinity]}',
        '{"caption": "b", "x": "\\ud83d"}',
        '{"caption": "c", "x": 1' + "0" * 400 + "}",
    ]
    expected = [("web-0", "a"), ("web-1", "b"), ("web-2", "c"), ("web-3", "d")]
    last = b'{"caption": "d", "x": "\xff"}'
    for name, parts in (("f.jsonl", (b"", b"\n", b"")), ("f.json", (b"[", b",", b"]"))):
        start, between, end = parts
        content = start + between.join([*map(str.encode, lines), last]) + end
        (tmp_path / name).write_bytes(content)
        assert rows(tmp_path / name) == expected


def test_a_cut_character_is_one_bad_row(tmp_path: Path) -> None:
    captions = read(write(tmp_path, '[{"caption": "a"}, {"caption": "b \\ud83d"}, "c"]'))
    assert [caption.text for caption in captions] == ["a", "", "c"]
    assert captions[1].problem == (
        "item 2: the caption holds half of a surrogate pair (a character that was cut)"
    )
    assert captions[1].text_raw == "b ?"


@pytest.mark.parametrize("name", ["f.json", "f.jsonl"])
def test_two_fields_of_one_name(tmp_path: Path, name: str) -> None:
    items = [
        '{"caption": "a", "caption": "b"}',
        '{"caption": "c", "url": 1, "url": 2}',
        '{"note": "\\"caption\\": 1", "caption": "d"}',
        '{"caption": "e", "inner": {"caption": "f"}}',
    ]
    text = f"[{','.join(items)}]" if name == "f.json" else "\n".join(items)
    captions = read(write(tmp_path, text, name))
    assert [caption.text for caption in captions] == ["", "c", "d", "e"]
    assert (captions[0].problem or "").endswith("1: two of its fields are named 'caption'")
    assert [caption.problem for caption in captions[1:]] == [None] * 3
    nested = '[{"s": [{"raw": "a"}, {"raw": "b", "raw": "c"}]}]'
    first, second = read(write(tmp_path, nested), text_field="raw")
    assert (first.text, second.text) == ("a", "")
    assert second.problem == "item 1: two of its fields are named 'raw'"


IDS: list[tuple[str, str | None]] = [
    ('"x"', "x"),
    ("5", "5"),
    ("18446744073709551615", "18446744073709551615"),
    ("5.0", "5"),
    ("-0.0", "0"),
    ("null", ""),
    ("NaN", ""),
    ('""', ""),
    ("5.5", None),
    ("1e300", None),
    ("9007199254740994.0", None),
    ("1" + "0" * 40, None),
    ("true", None),
    ("[1]", None),
    ("{}", None),
    ('"\\ud83d"', None),
]


@pytest.mark.parametrize(("given", "expected"), IDS)
def test_an_id_that_cannot_serve(tmp_path: Path, given: str, expected: str | None) -> None:
    path = write(tmp_path, f'[{{"caption": "a", "id": {given}, "key": {given}}}]')
    said: list[str] = []
    assert rows(path, say=said.append) == [(expected or "web-0", "a")]
    assert bool(said) == (expected is None)
    assert all("item 1: " in line and "such rows are numbered" in line for line in said)
    # One that was asked for must serve, unless it is null.
    (caption,) = read(path, id_field="key")
    if expected is None:
        assert "'key' must hold a text or an integer" in (caption.problem or "")
        assert (caption.problem or "").endswith("--set sources.1.id_field=null")
    else:
        assert (caption.problem, caption.id) == (None, expected or "web-0")
    assert rows(path, id_field=None) == [("web-0", "a")]


def test_images_of_lists_of_captions(tmp_path: Path) -> None:
    for name in "123":
        (tmp_path / f"{name}.jpg").write_bytes(name.encode())
    items = [
        {"image": "1.jpg", "id": 1, "s": [{"raw": "a"}, {"raw": "b"}]},
        {"image": "2.jpg", "id": 2, "s": []},
        {"image": "3.jpg", "id": 3, "s": [{"raw": "c"}]},
    ]
    lines = "\n".join(map(json.dumps, items))
    for name, text in (("f.json", json.dumps(items)), ("f.jsonl", lines)):
        path = write(tmp_path, text, name)
        texts = [caption.text for caption in read(path, text_field="raw")]
        assert texts == ["a", "b", "", "c"]
        images = read_images(path, rows=range(4), text_field="raw", image_field="image")
        assert [image.data for image in images] == [b"1", b"1", b"2", b"3"]
        # Images that a model captions are a row each.
        images = read_images(path, rows=range(3), image_field="image")
        assert [image.data for image in images] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("shape", ["COCO", "LLaVA"])
def test_a_known_shape_knows_its_images(tmp_path: Path, shape: str) -> None:
    for name in ("7.jpg", "9.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    path = write(tmp_path, SHAPES[shape][0])
    images = list(read_images(path, rows=range(2), text_field="caption"))
    expected = {"COCO": [b"9.jpg", b"9.jpg"], "LLaVA": [b"7.jpg", None]}[shape]
    assert [image.data for image in images] == expected
    other = write(tmp_path, [{"caption": "a"}])
    with pytest.raises(CaptionSourceError, match="set image_field to the column or key"):
        list(read_images(other, rows=[0], text_field="caption"))


def test_an_image_that_is_not_at_hand(tmp_path: Path) -> None:
    path = write(tmp_path, SHAPES["COCO"][0])
    options: dict[str, Any] = {"rows": [0], "text_field": "caption"}
    (image,) = read_images(path, **options)
    assert "No such file" in (image.problem or "")
    (image,) = read_images(path, missing_ok=True, **options)
    assert (image.data, image.problem) == (None, None)
