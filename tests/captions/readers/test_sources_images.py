"""Original images of rows: which bytes they are, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peak_memory import growth
from synthvlm.captions.readers import images
from synthvlm.captions.readers.sources import OriginalImage, read_captions, read_images
from synthvlm.errors import CaptionSourceError

SECRET = b"secret"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of images, beside a secret."""
    (tmp_path / "secret.jpg").write_bytes(SECRET)
    (tmp_path / "images-of-others").mkdir()
    (tmp_path / "images-of-others" / "x.jpg").write_bytes(SECRET)
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    (root / "a.jpg").write_bytes(b"a")
    (root / "sub" / "b.jpg").write_bytes(b"b")
    (root / "empty.jpg").touch()
    (root / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "outside").symlink_to(tmp_path)
    (root / "in.jpg").symlink_to("sub/b.jpg")
    (root / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(root / "pipe.jpg")
    return root


def write_rows(path: Path, values: list[Any]) -> Path:
    rows = [{"caption": f"row {i}", "image": value} for i, value in enumerate(values)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path | str, count: int, **options: Any) -> list[OriginalImage]:
    options = {"image_field": "image", "rows": range(count), **options}
    return list(read_images(path, **options))


def test_paths_are_relative_to_the_source_or_the_root(folder: Path) -> None:
    values = ["a.jpg", "sub/b.jpg", "sub/../a.jpg", "in.jpg", str(folder / "a.jpg"), None, ""]
    expected = [b"a", b"b", b"a", b"b", b"a", None, None]
    found = read(write_rows(folder / "rows.jsonl", values), len(values))
    assert found == [OriginalImage(row, data) for row, data in enumerate(expected)]
    elsewhere = write_rows(folder.parent / "rows.jsonl", values)
    assert read(elsewhere, len(values), image_root=folder) == found


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("../secret.jpg", "is outside of the image folder"),
        ("../images-of-others/x.jpg", "is outside of the image folder"),
        ("sub/../../secret.jpg", "is outside of the image folder"),
        ("out.jpg", "is outside of the image folder"),
        ("outside/secret.jpg", "is outside of the image folder"),
        ("/etc/passwd", "is outside of the image folder"),
        ("file:///etc/passwd", "cannot be read: No such file"),
        ("memory://a.jpg", "cannot be read: No such file"),
        ("~/a.jpg", "cannot be read: No such file"),
        ("none.jpg", "cannot be read: No such file"),
        ("nul\0.jpg", "cannot be read: "),
        ("x" * 5000, "cannot be read: File name too long"),
        ("loop.jpg", "cannot be read: "),
        ("sub", "is not a regular file"),
        (".", "is not a regular file"),
        ("pipe.jpg", "is not a regular file"),
        ("empty.jpg", "the image is empty"),
        (5, "neither a path nor bytes"),
        (["a.jpg"], "neither a path nor bytes"),
        ({"path": "../secret.jpg", "bytes": None}, "is outside of the image folder"),
        ({"name": "a.jpg"}, "neither a path nor bytes"),
    ],
)
def test_a_refused_image_is_a_problem_of_its_row(folder: Path, value: Any, problem: str) -> None:
    good, bad, last = read(write_rows(folder / "rows.jsonl", ["a.jpg", value, "a.jpg"]), 3)
    assert good.data == last.data == b"a"
    assert bad.data is None
    assert (bad.problem or "").startswith("line 2: ")
    assert problem in (bad.problem or "")
    assert "\n" not in (bad.problem or "")
    assert len(bad.problem or "") < 500


@pytest.mark.parametrize("value", ["http://127.0.0.1:9/a.jpg", "HTTPS://example.org/a.jpg"])
def test_a_url_is_never_fetched(folder: Path, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*arguments: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert read(write_rows(folder / "rows.jsonl", [value]), 1) == [OriginalImage(0, None)]


wild_paths = st.lists(
    st.sampled_from(
        ["..", ".", "", "a.jpg", "sub", "b.jpg", "outside", "secret.jpg", "images", "/"]
    ),
    max_size=6,
).map("/".join)


@settings(max_examples=300, deadline=None)
@given(wild_paths)
def test_no_path_leads_out(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    base = tmp_path_factory.getbasetemp() / "wild"
    root = base / "images"
    if not root.is_dir():
        (root / "sub").mkdir(parents=True)
        (base / "secret.jpg").write_bytes(SECRET)
        (root / "a.jpg").write_bytes(b"a")
        (root / "sub" / "b.jpg").write_bytes(b"b")
        (root / "outside").symlink_to(base)
    (found,) = read(write_rows(base / "rows.jsonl", [value]), 1, image_root=root)
    assert found.data in (None, b"a", b"b")
    with fsspec.open("memory://wild-images/images/a.jpg", "wb") as file:
        file.write(b"a")
    with fsspec.open("memory://wild-images/secret.jpg", "wb") as file:
        file.write(SECRET)
    (found,) = read(base / "rows.jsonl", 1, image_root="memory://wild-images/images")
    assert found.data in (None, b"a")


def test_images_on_any_file_system(folder: Path) -> None:
    for name in ("root/a.jpg", "root/100%.jpg", "secret.jpg"):
        with fsspec.open(f"memory://pictures/{name}", "wb") as file:
            file.write(name.encode())
    values = [
        "a.jpg",
        "memory://pictures/root/a.jpg",
        "100%.jpg",
        "../secret.jpg",
        "%2e%2e/secret.jpg",
        "..\\secret.jpg",
        "/pictures/secret.jpg",
        "memory://pictures/secret.jpg",
        "memory://pictures/root/../secret.jpg",
        "none.jpg",
    ]
    path = write_rows(folder / "rows.jsonl", values)
    found = read(path, len(values), image_root="memory://pictures/root")
    assert [image.data for image in found] == [
        b"root/a.jpg",
        b"root/a.jpg",
        b"root/100%.jpg",
        *[None] * 7,
    ]
    problems = [image.problem or "" for image in found]
    assert all("outside of the image folder memory://pictures/root" in p for p in problems[3:9])
    assert problems[9].startswith("line 10: image 'none.jpg' cannot be read: ")
    # The folder of a remote source is the root of its images.
    with fsspec.open("memory://pictures/root/rows.jsonl", "wb") as file:
        file.write(path.read_bytes())
    assert [i.data for i in read("memory://pictures/root/rows.jsonl", 2)] == [b"root/a.jpg"] * 2


def test_an_image_may_not_be_huge(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_IMAGE_BYTES", 1000)
    (folder / "huge.jpg").write_bytes(bytes(1001))
    (folder / "large.jpg").write_bytes(bytes(1000))
    huge, large = read(write_rows(folder / "rows.jsonl", ["huge.jpg", "large.jpg"]), 2)
    assert huge.problem == "line 1: the image has 1,001 bytes, the limit is 1,000"
    assert large.data == bytes(1000)


def parquet(path: Path, values: pa.Array, rows_per_group: int = 7) -> Path:
    table = pa.table({"caption": [f"row {i}" for i in range(len(values))], "image": values})
    pq.write_table(table, path, row_group_size=rows_per_group)
    return path


@pytest.mark.parametrize("kind", ["bytes", "large bytes", "struct", "path", "dictionary", "null"])
def test_every_kind_of_parquet_column(folder: Path, kind: str) -> None:
    values = {
        "bytes": pa.array([b"a", None] * 20),
        "large bytes": pa.array([b"a", None] * 20, pa.large_binary()),
        "struct": pa.array([{"bytes": b"a", "path": "../x"}, {"bytes": None, "path": None}] * 20),
        "path": pa.array(["a.jpg", None] * 20),
        "dictionary": pa.array(["a.jpg", None] * 20).dictionary_encode(),
        "null": pa.nulls(40),
    }[kind]
    path = parquet(folder / "rows.parquet", values)
    rows = [0, 1, 6, 7, 38, 39]
    odd = None if kind == "null" else b"a"
    expected = [odd, None, odd, None, odd, None]
    assert read(path, 0, rows=rows) == [
        OriginalImage(row, data) for row, data in zip(rows, expected, strict=True)
    ]
    assert [caption.text for caption in read_captions(path, name="w", normalize=str)][
        39
    ] == "row 39"


def test_row_groups_without_wanted_rows_are_not_read(folder: Path) -> None:
    path = parquet(folder / "rows.parquet", pa.array([bytes([i]) * 5000 for i in range(40)]))
    content = bytearray(path.read_bytes())
    metadata = pq.read_metadata(path)
    for group in (0, metadata.num_row_groups - 1):
        chunk = metadata.row_group(group).column(1)
        assert chunk.path_in_schema == "image"
        start = chunk.data_page_offset
        content[start : start + 20] = b"\xff" * 20
    path.write_bytes(content)
    found = read(path, 0, rows=[7, 20, 27])
    assert [image.data for image in found] == [bytes([row]) * 5000 for row in (7, 20, 27)]
    for row in (0, 39):
        with pytest.raises(CaptionSourceError):
            read(path, 0, rows=[row])


@pytest.mark.parametrize("format", ["csv", "tsv", "json"])
def test_images_of_tables_and_lists(folder: Path, format: str) -> None:
    path = folder / f"rows.{format}"
    separator = "," if format == "csv" else "\t"
    path.write_text(
        f"caption{separator}image\nx{separator}a.jpg\ny{separator}\nbad\n"
        if format != "json"
        else '[{"image": "a.jpg"}, {"image": ""}, {"caption": "x"}]'
    )
    first, none, bad = read(path, 3)
    assert (first.data, none) == (b"a", OriginalImage(1, None))
    assert (bad.problem or "").startswith("line 4: 1 columns" if format != "json" else "item 3: th")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=5),
    st.sets(st.integers(0, 60)),
    st.sampled_from(["parquet", "jsonl"]),
)
def test_any_rows_of_any_files(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], wanted: set[int], format: str
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    total = 0
    for number, size in enumerate(sizes):
        names = [f"{row}.jpg" for row in range(total, total + size)]
        path = folder / f"{number}.{format}"
        if format == "parquet":
            values = pa.array([name.encode() for name in names], pa.binary())
            parquet(path, values, rows_per_group=3)
        else:
            write_rows(path, [{"bytes": None, "path": name} for name in names])
        total += size
    for row in range(total if format == "jsonl" else 0):
        (folder / f"{row}.jpg").write_bytes(f"{row}.jpg".encode())
    rows = sorted(row for row in wanted if row < total)
    found = read(folder / f"*.{format}", 0, rows=iter(rows))
    assert found == [OriginalImage(row, f"{row}.jpg".encode()) for row in rows]


def test_wanted_rows_must_ascend_and_be_there(folder: Path) -> None:
    path = write_rows(folder / "rows.jsonl", ["a.jpg"] * 3)
    for rows in ([1, 1], [2, 0], [-1]):
        with pytest.raises(ValueError, match="must ascend from 0"):
            read(path, 0, rows=rows)
    with pytest.raises(CaptionSourceError, match="there is no row 3, only 3 rows"):
        read(path, 4)


def test_nothing_is_read_behind_the_last_wanted_row(folder: Path) -> None:
    (folder / "a.jsonl").write_text('{"image": "a.jpg"}\n')
    (folder / "b.jsonl").mkdir()
    (folder / "c.jsonl").write_bytes("no UTF-8".encode("utf-16"))
    assert read(folder / "*.jsonl", 1) == [OriginalImage(0, b"a")]
    with pytest.raises(CaptionSourceError, match="UTF-16"):
        read(folder / "*.jsonl", 2)


def test_errors_come_at_once(folder: Path) -> None:
    def start(path: Path, **options: Any) -> Iterator[OriginalImage]:
        return read_images(path, rows=[0], **options)

    jsonl = write_rows(folder / "rows.jsonl", ["a.jpg"])
    with pytest.raises(CaptionSourceError, match="set image_field"):
        start(jsonl)
    (folder / "rows.txt").write_text("x\n")
    with pytest.raises(CaptionSourceError, match="has no original images"):
        start(folder / "rows.txt", image_field="image")
    with pytest.raises(CaptionSourceError, match="there is no such folder of images"):
        start(jsonl, image_field="image", image_root=folder / "none")
    path = parquet(folder / "rows.parquet", pa.array([b"a"]))
    with pytest.raises(CaptionSourceError, match=r"no column 'imge', .* did you mean 'image'"):
        read(path, 1, image_field="imge")
    (missing,) = read(jsonl, 1, image_field="imge")
    assert missing.problem == "line 1: there is no field 'imge' (found: 'caption', 'image')"


RUN = """
from synthvlm.captions.readers.sources import read_images
def run(path, count, format):
    found = read_images(path, format=format, image_field="image", rows=range(count))
    return sum(len(image.data) for image in found)
"""


@pytest.mark.parametrize("format", ["parquet", "huggingface"])
def test_memory_does_not_grow_with_the_images(tmp_path: Path, format: str) -> None:
    arguments = []
    for name, count in (("small", 200), ("large", 3000)):
        path = tmp_path / name / "train.parquet"
        path.parent.mkdir()
        values = pa.array([os.urandom(50_000) for _ in range(count)])
        options = {"row_group_size": 50, "compression": "none", "use_dictionary": False}
        pq.write_table(pa.table({"caption": ["x"] * count, "image": values}), path, **options)
        source = path if format == "parquet" else path.parent
        arguments.append((str(source), count, format))
    size, grown_kib = growth(RUN, *arguments)
    assert size == 3000 * 50_000
    assert grown_kib < 40_000
