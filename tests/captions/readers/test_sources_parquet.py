"""Parquet files as others write them: types of columns, ids, lists, and columns given twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthvlm.captions.readers.sources import read_captions, read_images
from synthvlm.errors import CaptionSourceError


def write(folder: Path, table: pa.Table, name: str = "f.parquet", **options: Any) -> Path:
    path = folder / name
    pq.write_table(table, path, **options)
    return path


def rows(path: Path | str, **options: Any) -> list[tuple[str, str, str | None]]:
    captions = read_captions(path, name="web", normalize=str, place="sources.2", **options)
    return [(caption.id, caption.text, caption.problem) for caption in captions]


def texts(path: Path | str, **options: Any) -> list[str]:
    found = rows(path, **options)
    assert [problem for _, _, problem in found] == [None] * len(found)
    return [text for _, text, _ in found]


TEXTS = ["ein Bär", "a cat"]
ENCODED = [text.encode() for text in TEXTS]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(TEXTS, pa.string_view()),
        pa.array(TEXTS, pa.dictionary(pa.int8(), pa.large_string())),
        pa.array(ENCODED, pa.binary()),
        pa.array(ENCODED, pa.large_binary()),
        pa.array(ENCODED, pa.dictionary(pa.int32(), pa.binary())),
        pa.array([text.ljust(8)[:8] for text in ENCODED], pa.binary(8)),
    ],
    ids=lambda column: str(column.type),
)
def test_text_of_every_type(tmp_path: Path, column: pa.Array) -> None:
    found = texts(write(tmp_path, pa.table({"caption": column})))
    assert [text.strip() for text in found] == TEXTS


def test_bytes_that_are_no_text_are_a_bad_row(tmp_path: Path) -> None:
    column = pa.array([b"a", b"\xff", None], pa.binary())
    found = rows(write(tmp_path, pa.table({"caption": column})))
    assert [problem for _, _, problem in found] == [
        None,
        "row 2: invalid UTF-8",
        "row 3: 'caption' must be a string, not null",
    ]


IDS: list[tuple[pa.Array, list[str], bool]] = [
    (pa.array([1.0, 2.0]), ["1", "2"], False),
    (pa.array([1.0, None]), ["1", "web-1"], False),
    (pa.array([1.0, float("nan")]), ["1", "web-1"], False),
    (pa.array([1.5, 2.0]), ["web-0", "2"], True),
    (pa.array([None, None]), ["web-0", "web-1"], False),
    (pa.array([True, False]), ["web-0", "web-1"], True),
    (pa.array([[1], [2]]), ["web-0", "web-1"], True),
    (pa.array([{"a": 1}, None]), ["web-0", "web-1"], True),
    (pa.array([2**63, 2**64 - 1], pa.uint64()), [str(2**63), str(2**64 - 1)], False),
    (pa.array([b"x", b"\xff"]), ["x", "web-1"], True),
    (pa.array(["x", ""]), ["x", "web-1"], False),
    (pa.array([UUID(int=5).bytes, None], pa.uuid()), [str(UUID(int=5)), "web-1"], False),
]


@pytest.mark.parametrize(("ids", "expected", "is_said"), IDS, ids=lambda value: str(value)[:30])
def test_a_column_of_ids_of_every_type(
    tmp_path: Path, ids: pa.Array, expected: list[str], is_said: bool
) -> None:
    path = write(tmp_path, pa.table({"id": ids, "caption": TEXTS, "key": ids}))
    said: list[str] = []
    assert [id for id, _, _ in rows(path, say=said.append)] == expected
    assert texts(path) == TEXTS
    assert bool(said) == is_said
    problems = [problem for _, _, problem in rows(path, id_field="key") if problem is not None]
    assert bool(problems) == is_said
    assert all(problem.endswith("--set sources.2.id_field=null") for problem in problems)
    assert [id for id, _, _ in rows(path, id_field=None)] == ["web-0", "web-1"]


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    columns = [pa.array(["a"]), pa.array(["b"]), pa.array(["c"]), pa.array([1]), pa.array([2])]
    table = pa.Table.from_arrays(columns, names=["caption", "caption", "text", "id", "id"])
    path = write(tmp_path, table)
    for options, name in (({}, "caption"), ({"text_field": "text"}, "id")):
        with pytest.raises(CaptionSourceError, match=f"2 columns are named '{name}'"):
            rows(path, **options)
    assert texts(path, text_field="text", id_field=None) == ["c"]


NESTED = pa.table(
    {
        "image_id": [7, 8, 9],
        "captions": [["a", "b"], [], ["c"]],
        "sentences": [[{"raw": "a", "n": 1}, {"raw": "b", "n": 2}], [], [{"raw": "c", "n": 3}]],
        "row": [{"text": "a"}, {"text": "b"}, {"text": None}],
    }
)


@pytest.mark.parametrize("field", ["captions", "raw", "sentences.raw", "sentences[].raw"])
def test_lists_of_captions_are_a_row_each(tmp_path: Path, field: str) -> None:
    path = write(tmp_path, NESTED, row_group_size=2)
    found = rows(path, text_field=field, id_field="image_id")
    assert found == [("7-0", "a", None), ("7-1", "b", None), ("8", "", None), ("9-0", "c", None)]
    if field != "captions":
        found = rows(path, text_field=field, id_field="sentences.n")
        assert [id for id, _, _ in found] == ["1", "2", "web-2", "3"]


def test_a_field_inside_another(tmp_path: Path) -> None:
    found = rows(write(tmp_path, NESTED), text_field="row.text", id_field="image_id")
    assert found == [
        ("7", "a", None),
        ("8", "b", None),
        ("9", "", "row 3: 'row.text' must be a string, not null"),
    ]


def test_conversations_of_llava(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    path = write(tmp_path, pa.table({"conversations": [turns], "id": ["4"]}))
    with pytest.raises(CaptionSourceError, match=r"--set sources\.2\.text_field=conversations$"):
        rows(path)
    assert rows(path, text_field="conversations") == [("4", "a", None)]


@pytest.mark.parametrize("group", [1, 3])
def test_images_of_lists_of_captions(tmp_path: Path, group: int) -> None:
    table = pa.table(
        {
            "captions": [["a", "b"], ["c"], ["d", "e", "f"]],
            "image": [{"bytes": b"%d" % n, "path": None} for n in range(3)],
        }
    )
    path = write(tmp_path, table, row_group_size=group)
    expected = [b"0", b"0", b"1", b"2", b"2", b"2"]
    for wanted in ([*range(6)], [1, 2, 5], [5]):
        options: dict[str, Any] = {"text_field": "captions", "image_field": "image"}
        images = list(read_images(path, rows=wanted, **options))
        assert [image.data for image in images] == [expected[row] for row in wanted]
    images = list(read_images(path, rows=[0, 2], image_field="image"))
    assert [image.data for image in images] == [b"0", b"2"]


def test_a_refusal_names_the_columns_of_text(tmp_path: Path) -> None:
    table = pa.table({"id": [1], "width": [2], "TEXT": ["a"], "URL": ["u"]})
    path = write(tmp_path, table)
    with pytest.raises(CaptionSourceError) as caught:
        rows(path)
    assert str(caught.value) == (
        f"{path}: there is no column 'caption', only 'id', 'width', 'TEXT', 'URL'; if 'TEXT' holds "
        f"the captions, add --set sources.2.text_field=TEXT"
    )
    assert texts(path, text_field="TEXT") == ["a"]
    path = write(tmp_path, NESTED.drop_columns(["captions", "row"]))
    with pytest.raises(CaptionSourceError, match=r"--set sources\.2\.text_field=sentences\.raw$"):
        rows(path)


def test_files_of_other_columns_are_named(tmp_path: Path) -> None:
    write(tmp_path, pa.table({"caption": ["a"]}), "0.parquet")
    write(tmp_path, pa.table({"text": ["b"]}), "1.parquet")
    write(tmp_path, pa.table({"caption": pa.array([], pa.string())}), "2.parquet")
    with pytest.raises(CaptionSourceError, match=r"1\.parquet: there is no column 'caption'"):
        rows(tmp_path / "*.parquet")
    (tmp_path / "1.parquet").unlink()
    assert texts(tmp_path / "*.parquet") == ["a"]
    with pytest.raises(CaptionSourceError, match="holds no captions"):
        rows(tmp_path / "2.parquet")
    half = (tmp_path / "0.parquet").read_bytes()
    (tmp_path / "3.parquet").write_bytes(half[: len(half) // 2])
    with pytest.raises(CaptionSourceError, match=r"3\.parquet: not a usable Parquet file"):
        rows(tmp_path / "3.parquet")


def test_csv_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    for name, line in (("f.csv", "caption,id,caption\na,1,b\n"), ("f.tsv", "id\tcaption\tid\n")):
        (tmp_path / name).write_text(line)
        with pytest.raises(CaptionSourceError, match=r"2 columns are named '(caption|id)'"):
            rows(tmp_path / name)
