"""JSON documents read as a stream: lists, COCO captions, LLaVA conversations."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peak_memory import growth
from synthvlm.captions.readers import json_stream
from synthvlm.captions.readers.sources import read_captions, read_images
from synthvlm.data import Caption
from synthvlm.errors import CaptionSourceError

#: Text full of what the cutter looks at.
texts = st.text(st.sampled_from('ab\\"{}[],: \n\té東🎈'), max_size=12)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
layouts = st.sampled_from([{}, {"indent": 1}, {"separators": (" ,\r\n", " :\t")}])
lists = st.lists(values, max_size=8)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = json_stream._CHUNK_BYTES
    yield
    json_stream._CHUNK_BYTES = before


def items(content: bytes, chunk: int) -> list[Any]:
    json_stream._CHUNK_BYTES = chunk
    return list(json_stream.items_of_list(io.BytesIO(content), "a.json"))


def read(path: Path, **options: Any) -> list[Caption]:
    return list(read_captions(path, name="web", normalize=str.strip, **options))


@settings(max_examples=300, deadline=None)
@given(lists, layouts, st.integers(3, 40), st.booleans())
def test_any_list_in_any_chunks(
    expected: list[Any], layout: dict[str, Any], chunk: int, ascii: bool
) -> None:
    content = json.dumps(expected, ensure_ascii=ascii, **layout).encode()
    assert items(content, chunk) == expected
    assert items(b"\xef\xbb\xbf \n" + content + b" \n", chunk) == expected


@settings(max_examples=600, deadline=None)
@given(
    lists,
    st.integers(3, 40),
    st.lists(st.tuples(st.integers(0, 200), st.sampled_from('\\"{}[],:1 \x00\xff')), max_size=3),
    st.integers(0, 200),
)
def test_damaged_where_pythons_own_parser_finds_damage(
    value: list[Any], chunk: int, changes: list[tuple[int, str]], cut: int
) -> None:
    content = bytearray(json.dumps(value).encode())
    for place, byte in changes:
        content[place % len(content)] = ord(byte)
    damaged = bytes(content[: len(content) - cut] if cut < len(content) // 4 else content)
    try:
        expected = json.loads(damaged.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        expected = None
    if isinstance(expected, list):
        assert items(damaged, chunk) == expected
    else:
        with pytest.raises(CaptionSourceError, match=r"^a.json"):
            items(damaged, chunk)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", 'c"\\', "info"]), values),
        max_size=4,
        unique_by=lambda member: member[0],
    ),
    layouts,
    st.integers(3, 40),
)
def test_lists_of_any_object(
    members: list[tuple[str, Any]], layout: dict[str, Any], chunk: int
) -> None:
    json_stream._CHUNK_BYTES = chunk
    separators = layout.get("separators", (",", ":"))
    content = separators[0].join(
        f"{json.dumps(key)}{separators[1]}{json.dumps(value, **layout)}" for key, value in members
    )
    file = io.BytesIO(b"{" + content.encode() + b"}")
    # What is not taken is read over.
    expected = [
        (key, value if isinstance(value, list) else None) for key, value in members if key != "b"
    ]
    found = [
        (member.key, [*member.items()] if member.kind == "list" else None)
        for member in json_stream.members(file, "a.json")
        if member.key != "b"
    ]
    assert found == expected


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"[1,\n 2,\n  \xc3\xa9]", "line 3, column 3: invalid JSON: "),
        (b'["\xc3\xa9", x]', "line 1, column 8: invalid JSON: "),
        (b'["a\xff",\n"b" 1]', "line 2, column 5: invalid JSON: "),
        (b"[1]\n\n  x", "line 3, column 3: invalid JSON: unexpected content after the end"),
        (b"[1,\n", "line 2, column 1: invalid JSON: unexpected end of data"),
        (b"[1\n}", "line 2, column 1: invalid JSON: expected , or ]"),
        (b"[1,]", "invalid JSON: "),
        (b"", "line 1, column 1: invalid JSON: the file is empty"),
        (b"\n\n", "line 3, column 1: invalid JSON: the file is empty"),
        (b"3", "expected a JSON list"),
        (b"[" * 100_000, "unexpected end of data"),
        (b"[" * 100_000 + b"]" * 100_000, "invalid JSON: "),
        ("[1]".encode("utf-16"), "is UTF-16"),
    ],
)
@pytest.mark.parametrize("chunk", [3, 1 << 18])
def test_the_place_of_the_damage(content: bytes, place: str, chunk: int) -> None:
    with pytest.raises(CaptionSourceError) as caught:
        items(content, chunk)
    assert place in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_integer_of_any_length() -> None:
    # The reason against ijson, whose default backend dies of it (3.6.0: segmentation fault).
    assert items(b"[" + b"1" * 300 + b"]", 16) == [float("1" * 300)]
    with pytest.raises(CaptionSourceError, match="line 1, column 5: invalid JSON: number"):
        items(b"[1, 1" + b"0" * 5000 + b"]", 16)


def test_what_never_ends_is_not_read_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "MAX_ITEM_BYTES", 1 << 20)

    class Endless(io.RawIOBase):
        count = 0

        def read(self, size: int = -1) -> bytes:
            self.count += size
            return b'["' if self.count == size else b"x" * size

    file = Endless()
    with pytest.raises(CaptionSourceError, match=r"line 1, column 2: .* or never ends"):
        list(json_stream.items_of_list(file, "a.json"))  # type: ignore[arg-type]
    assert file.count < 4 << 20


RUN = """
from synthvlm.captions.readers.sources import read_captions
def run(path, format):
    return sum(1 for _ in read_captions(path, name="web", format=format, normalize=str))
"""


@pytest.mark.parametrize("format", ["json", "coco", "llava"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, format: str) -> None:
    text = "a cat that sleeps on a warm stone wall in the evening sun " * 8
    row: dict[str, Any] = {"id": 1, "image_id": 1, "caption": text}
    if format == "llava":
        row = {"id": "1", "conversations": [{"from": "gpt", "value": text}]}
    for name, count in (("small.json", 2_000), ("large.json", 220_000)):
        with open(tmp_path / name, "wb") as file:
            file.write(b'{"annotations": [' if format == "coco" else b"[")
            line = orjson.dumps(row) + b",\n"
            for _ in range(count // 1000):
                file.write(line * 1000)
            file.write(orjson.dumps(row) + (b"]}" if format == "coco" else b"]"))
    assert (tmp_path / "large.json").stat().st_size > 100e6
    small, large = ((str(tmp_path / name), format) for name in ("small.json", "large.json"))
    count, grown_kib = growth(RUN, small, large)
    assert count == 220_001
    assert grown_kib < 10_000


COCO = {
    "info": {"year": 2017, "list": [1, 2]},
    "images": [
        {"id": 1, "file_name": "one.jpg", "coco_url": "http://images.example/one.jpg"},
        {"id": 2, "file_name": "two.jpg"},
        {"id": 2, "file_name": "other.jpg"},
        "no image",
        {"id": [3], "file_name": "three.jpg"},
    ],
    "licenses": [],
    "annotations": [
        {"id": 48, "image_id": 1, "caption": "A bicycle."},
        {"id": 49, "image_id": 7, "caption": "A dangling id."},
        {"id": 49, "image_id": 2, "caption": "An id given twice."},
        {"id": 50, "image_id": [1], "caption": 5},
        3,
        {"id": 51, "image_id": 1},
    ],
}


def test_coco_captions(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(COCO))
    captions = read(path, format="coco")
    assert [(caption.id, caption.text) for caption in captions] == [
        ("48", "A bicycle."),
        ("49", "A dangling id."),
        ("49", "An id given twice."),
        ("50", ""),
        ("web-4", ""),
        ("51", ""),
    ]
    assert [caption.problem for caption in captions] == [
        None,
        None,
        None,
        "annotation 4: 'caption' must be a string, not a number",
        "annotation 5: not a JSON object",
        "annotation 6: there is no field 'caption' (found: 'id', 'image_id')",
    ]


@pytest.mark.parametrize("ending", ["", ".zst", ".gz"])
@pytest.mark.parametrize("first", ["images", "annotations"])
def test_coco_images_whichever_list_comes_first(tmp_path: Path, first: str, ending: str) -> None:
    import gzip

    import pyarrow as pa

    content = json.dumps({first: COCO[first], **COCO}).encode()
    if ending == ".gz":
        content = gzip.compress(content)
    elif ending == ".zst":
        content = pa.compress(content, "zstd", asbytes=True)
    path = tmp_path / f"captions.json{ending}"
    path.write_bytes(content)
    (tmp_path / "one.jpg").write_bytes(b"one")
    images = list(read_images(path, format="coco", rows=range(6)))
    assert [image.row for image in images] == list(range(6))
    assert [image.data for image in images] == [b"one", None, None, None, None, b"one"]
    assert [image.problem for image in images] == [
        None,
        "annotation 2: there is no image with the id '7'",
        "annotation 3: there are several images with the id '2'",
        "annotation 4: there is no image with the id '[1]'",
        "annotation 5: not a JSON object",
        None,
    ]


def test_a_url_field_of_coco_is_left_alone_and_a_missing_field_is_told(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(COCO))
    (url,) = read_images(path, format="coco", image_field="coco_url", rows=[0])
    assert (url.data, url.problem) == (None, None)
    (typo,) = read_images(path, format="coco", image_field="file_nam", rows=[0])
    assert typo.problem == (
        "annotation 1: there is no field 'file_nam' (found: 'id', 'file_name', 'coco_url')"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "a list is no file of COCO captions"),
        ("{}", "no list 'annotations'"),
        ('{"annotations": {"caption": "x"}}', "no list 'annotations'"),
        ('{"annotations": [1, 2}', "line 1, column 22: invalid JSON: expected , or ]"),
        ('{"a": 1, }', "trailing comma"),
        ('{"a": 1 "b": 2}', "invalid JSON"),
        ('{"a": }', "line 1, column 7: invalid JSON: expected a value"),
        ("{a: 1}", "line 1, column 2: invalid JSON: expected a key in double quotes"),
        ('{"a": [1]]', "line 1, column 10: invalid JSON: expected , or }"),
        ('{"annotations": [{"caption": "x"}]', "unexpected end of data|expected , or }"),
        ("{" + ",".join(f'"{i}": {{}}' for i in range(1001)) + "}", "more than 1,000 keys"),
    ],
)
def test_no_coco_captions(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "captions.json"
    path.write_text(content)
    with pytest.raises(CaptionSourceError, match=message):
        read(path, format="coco")


def test_llava_conversations(tmp_path: Path) -> None:
    human = {"from": "human", "value": "<image>\nWhat is this?"}
    rows: list[Any] = [
        {"id": "7", "image": "7.jpg", "conversations": [human, {"from": "gpt", "value": "A cat."}]},
        {
            "conversations": [
                {"from": "gpt", "value": "First."},
                human,
                {"from": "gpt", "value": "Last."},
            ]
        },
        {"id": 9, "image": None, "conversations": [human]},
        {"id": "10", "conversations": [human, {"from": "gpt", "value": 3}]},
        {"id": "11", "conversations": "text"},
        {"id": "12"},
        [],
    ]
    path = tmp_path / "llava.json"
    path.write_text(json.dumps(rows))
    captions = read(path, format="llava")
    assert [(caption.id, caption.text) for caption in captions] == [
        ("7", "A cat."),
        ("web-1", "First."),
        ("9", ""),
        ("10", ""),
        ("11", ""),
        ("12", ""),
        ("web-6", ""),
    ]
    assert [caption.problem for caption in captions[2:]] == [
        "item 3: the conversation has no turn from 'gpt'",
        "item 4: the first turn from 'gpt' has no text",
        "item 5: the conversation has no turn from 'gpt'",
        "item 6: there is no field 'conversations' (found: 'id')",
        "item 7: not a JSON object",
    ]
    (tmp_path / "7.jpg").write_bytes(b"seven")
    images = list(read_images(path, format="llava", rows=[0, 1, 2]))
    assert [(image.data, image.problem) for image in images] == [
        (b"seven", None),
        (None, None),
        (None, None),
    ]
    (image,) = read_images(path, format="llava", image_field="image", rows=[1])
    assert "there is no field 'image'" in (image.problem or "")


def test_an_object_with_one_list_is_read_as_that_list(tmp_path: Path) -> None:
    path = tmp_path / "questions.json"
    path.write_text('{"info": {"year": 2015}, "questions": [{"question": "a"}, {"question": "b"}]}')
    captions = list(read_captions(path, name="v", text_field="question", normalize=str))
    assert [caption.text for caption in captions] == ["a", "b"]
    path.write_text('{"images": [{"id": 1}], "annotations": [{"caption": "a"}]}')
    assert [caption.text for caption in read(path)] == ["a"]
