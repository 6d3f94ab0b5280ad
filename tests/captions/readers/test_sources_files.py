"""Globs, compression, any file system, damaged files, digests."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthvlm.captions.readers import text_files
from synthvlm.captions.readers.sources import read_captions, read_images, source_digest
from synthvlm.data import Caption
from synthvlm.errors import CaptionSourceError


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.compress(content, "zstd", asbytes=True)
    return packed


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}
ROWS = [{"id": f"a{i}", "caption": f"caption {i} é"} for i in range(3000)]


def content_of(format: str) -> bytes:
    if format == "txt":
        return "".join(row["caption"] + "\n" for row in ROWS).encode()
    if format == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    if format == "json":
        return json.dumps(ROWS).encode()
    if format == "parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(ROWS), sink)
        return sink.getvalue().to_pybytes()
    separator = "," if format == "csv" else "\t"
    table = [("id", "caption"), *((row["id"], row["caption"]) for row in ROWS)]
    return "".join(separator.join(row) + "\n" for row in table).encode()


def read(path: Path | str, **options: Any) -> list[Caption]:
    return list(read_captions(path, name="web", normalize=str, **options))


def texts(path: Path | str, **options: Any) -> list[str]:
    return [caption.text for caption in read(path, **options)]


@pytest.mark.parametrize("ending", COMPRESSORS)
@pytest.mark.parametrize("format", ["txt", "jsonl", "json", "csv", "tsv", "parquet"])
def test_every_format_in_every_compression(tmp_path: Path, format: str, ending: str) -> None:
    path = tmp_path / f"captions.{format}{ending}"
    path.write_bytes(COMPRESSORS[ending](content_of(format)))
    assert texts(path) == [row["caption"] for row in ROWS]
    # The same file, its format named, its ending in capitals.
    upper = path.rename(tmp_path / f"captions.data{ending.upper()}")
    assert texts(upper, format=format) == [row["caption"] for row in ROWS]


def test_a_compression_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for compress in (*COMPRESSORS.values(), partial(bz2.compress, compresslevel=1)):
        path.write_bytes(compress(b"one\n"))
        assert texts(path) == ["one"]


@pytest.mark.parametrize("ending", COMPRESSORS)
@pytest.mark.parametrize("where", ["half", "last byte", "garbage"])
def test_half_a_compressed_file(tmp_path: Path, ending: str, where: str) -> None:
    # More than one chunk and hard to compress, so that rows come before the damage.
    rows = "".join(f"{i * 7919 % 1000003} {i * i % 999983}\n" for i in range(100_000)).encode()
    packed = COMPRESSORS[ending](rows)
    packed = {
        "half": packed[: len(packed) // 2],
        "last byte": packed[:-1],
        "garbage": packed[: len(packed) // 2] + bytes(1000) + packed[len(packed) // 2 + 1000 :],
    }[where]
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(packed)
    seen: list[str] = []
    with pytest.raises(CaptionSourceError, match=r"a\.txt\.\w+: cannot be read") as caught:
        seen.extend(c.text for c in read_captions(path, name="web", normalize=str))
    if where != "garbage":  # of which gzip knows only by the checksum at the end
        assert seen == rows.decode().split("\n")[: len(seen)]
    assert "\n" not in str(caught.value)
    if seen:
        assert f"cannot be read after row {len(seen)}: " in str(caught.value)


def test_several_members_in_one_compressed_file(tmp_path: Path) -> None:
    for ending, compress in COMPRESSORS.items():
        path = tmp_path / f"a.txt{ending}"
        path.write_bytes(compress(b"one\n") + compress(b"two\n"))
        assert texts(path) == ["one", "two"]


def test_a_glob_reads_files_in_sorted_order_and_counts_on(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"caption": "b"}\n')
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"c0\nc1\n"))
    (tmp_path / "a.csv").write_text("caption\na0\na1\n")
    (tmp_path / "d.txt").write_text("")  # an empty part among others
    (tmp_path / "folder.txt").mkdir()
    captions = read(tmp_path / "*")
    assert [(c.id, c.row, c.text) for c in captions] == [
        ("web-0", 0, "a0"),
        ("web-1", 1, "a1"),
        ("web-2", 2, "b"),
        ("web-3", 3, "c0"),
        ("web-4", 4, "c1"),
    ]
    assert texts(tmp_path / "[ab].*") == ["a0", "a1", "b"]


def test_a_problem_in_a_glob_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"caption": "a"}\n')
    (tmp_path / "b.jsonl").write_text('{"caption": "b"}\nbad\n')
    bad = read(tmp_path / "*.jsonl")[2]
    assert (bad.problem or "").startswith(f"{tmp_path / 'b.jsonl'}, line 2: invalid JSON")


def test_a_glob_with_nothing_or_with_something_else(tmp_path: Path) -> None:
    with pytest.raises(CaptionSourceError, match=r"\*\.jsonl: no file matches"):
        read(tmp_path / "*.jsonl")
    with pytest.raises(CaptionSourceError, match="no file matches"):
        source_digest(tmp_path / "*.jsonl")
    (tmp_path / "a.txt").write_text("a\n")
    (tmp_path / "b.gif").write_text("b")
    with pytest.raises(CaptionSourceError, match=r"b\.gif: cannot tell the format"):
        read(tmp_path / "*")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(CaptionSourceError, match="the file holds no captions"):
        read(tmp_path / "*.txt")
    (tmp_path / "c.txt").write_text("")
    with pytest.raises(CaptionSourceError, match="the 2 files hold no captions"):
        read(tmp_path / "*.txt")


def test_a_name_with_brackets_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "web [2024].txt").write_text("brackets\n")
    (tmp_path / "web 2.txt").write_text("not this\n")
    assert texts(tmp_path / "web [2024].txt") == ["brackets"]


def test_globs_on_any_file_system() -> None:
    for number in (1, 0):
        with fsspec.open(f"memory://globs/part-{number}.txt.zst", "wb") as file:
            file.write(zstd(f"part {number}\n\n".encode()))
    captions = read("memory://globs/*.txt.zst")
    assert [(c.row, c.text) for c in captions] == [(0, "part 0"), (1, ""), (2, "part 1"), (3, "")]
    before = source_digest("memory://globs/*.txt.zst")
    assert before == source_digest("memory://globs/*.txt.zst")
    with fsspec.open("memory://globs/part-2.txt.zst", "wb") as file:
        file.write(zstd(b"x"))
    assert source_digest("memory://globs/*.txt.zst") != before
    with pytest.raises(CaptionSourceError, match="memory://globs/none"):
        read("memory://globs/none*.txt")
    with pytest.raises(CaptionSourceError, match="is a directory"):
        read("memory://globs")


def test_an_error_of_a_remote_file_names_its_url() -> None:
    with fsspec.open("memory://broken/a.json", "wb") as file:
        file.write(b'[{"caption": "x"}')
    with pytest.raises(CaptionSourceError, match=r"^memory://.*broken/a.json, line 1, column 18:"):
        read("memory://broken/*.json")


def test_the_digest_of_a_glob_follows_every_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\n")
    alone = source_digest(tmp_path / "*.txt")
    assert alone == source_digest(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_text("b\n")
    both = source_digest(tmp_path / "*.txt")
    (tmp_path / "a.txt").write_text("b\n")
    (tmp_path / "b.txt").write_text("a\n")
    swapped = source_digest(tmp_path / "*.txt")
    assert len({alone, both, swapped}) == 3


@pytest.mark.parametrize("size", [5, (2 << 20) - 1, 3 << 20])
def test_shards_are_known_by_every_byte(tmp_path: Path, size: int) -> None:
    shard = tmp_path / "a.tar"
    content = bytearray(size)
    shard.write_bytes(content)
    digests = {source_digest(shard)}
    before = shard.stat()
    for place in (0, size // 2, size - 1):
        changed = content.copy()
        changed[place] = 1
        shard.write_bytes(changed)
        os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
        digests.add(source_digest(shard))
    shard.write_bytes(content + b"\0")
    digests.add(source_digest(shard))
    assert len(digests) == 5
    shard.write_bytes(content)
    assert source_digest(shard) in digests
    (tmp_path / "a.data").write_bytes(content)
    named = source_digest(tmp_path / "a.data", format="webdataset")
    assert named in digests
    assert source_digest(tmp_path / "a.data", format="txt") not in digests


def test_a_directory_is_told_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(CaptionSourceError, match=r"is a directory; name .*/\*\.jsonl"):
        read(tmp_path)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("ab \r\té"), max_size=9), max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.integers(4, 30),
)
def test_lines_in_any_chunks(rows: list[str], end: str, ended: bool, chunk: int) -> None:
    content = (end.join(rows) + (end if ended else "")).encode()
    with fsspec.open("memory://lines/a.txt", "wb") as file:
        file.write(content)
    # The definition: lines end in \n, one \r before it (or before the end) belongs to the end.
    # Where more than one in ten ends in \r alone, all do.
    text = content.decode()
    plain = re.sub("\r+\n", "\n", text)
    if 10 * (plain.count("\r") - plain.endswith("\r")) > plain.count("\n"):
        text = plain.replace("\r", "\n")
    expected = text.split("\n")
    if expected[-1] == "":
        expected.pop()
    expected = [line.removesuffix("\r") for line in expected]
    before, text_files._CHUNK_BYTES = text_files._CHUNK_BYTES, chunk
    try:
        if expected:
            assert [c.text_raw for c in read("memory://lines/a.txt")] == expected
        else:
            with pytest.raises(CaptionSourceError, match="no captions"):
                read("memory://lines/a.txt")
    finally:
        text_files._CHUNK_BYTES = before


@pytest.mark.parametrize("format", ["txt", "jsonl"])
def test_a_line_without_end_is_one_bad_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    monkeypatch.setattr(text_files, "MAX_ITEM_BYTES", 1 << 20)
    good = b'{"caption": "good"}'
    path = tmp_path / f"a.{format}"
    path.write_bytes(good + b"\n" + b"x" * (3 << 20) + b"\n" + good + b"\n" + b"y" * (2 << 20))
    captions = read(path)
    assert [caption.row for caption in captions] == [0, 1, 2, 3]
    assert [caption.problem is None for caption in captions] == [True, False, True, False]
    assert (captions[3].problem or "").startswith("line 4: the line is longer than")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["txt", "jsonl", "json", "csv", "tsv", "coco", "llava", "webdataset"]),
    st.one_of(st.binary(max_size=300), st.text(st.sampled_from('{}[]",:a1\n\\ \t'), max_size=80)),
    st.sampled_from(["", *COMPRESSORS]),
    st.booleans(),
)
def test_wild_bytes_are_rows_or_one_error(
    format: str, content: bytes | str, ending: str, packed: bool
) -> None:
    data = content.encode() if isinstance(content, str) else content
    if ending and packed:
        data = COMPRESSORS[ending](data)
    url = f"memory://wild/a.{format}{ending}"
    with fsspec.open(url, "wb") as file:
        file.write(data)
    try:
        captions = read(url, format=format)
    except CaptionSourceError as error:
        message = str(error)
    else:
        message = None
    if message is not None:
        assert "wild/a." in message
        assert "\n" not in message
        return
    assert [caption.row for caption in captions] == list(range(len(captions)))
    if format != "txt":
        images = list(
            read_images(
                url,
                format=format,
                image_field=None if format in ("coco", "llava", "webdataset") else "caption",
                rows=range(len(captions)),
            )
        )
        assert [image.row for image in images] == list(range(len(captions)))
