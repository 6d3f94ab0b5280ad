"""WebDataset shards, the hostile ones too."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peak_memory import growth
from synthvlm.captions.readers import webdataset
from synthvlm.captions.readers.records import Fields
from synthvlm.captions.readers.sources import OriginalImage, read_captions, read_images
from synthvlm.data import Caption
from synthvlm.errors import CaptionSourceError


def shard(*files: tuple[str, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=format) as archive:
        for name, content in files:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return sink.getvalue()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info.tobuf(tarfile.GNU_FORMAT)


def read(path: Path, **options: Any) -> list[Caption]:
    return list(read_captions(path, name="web", normalize=str, **options))


def images(path: Path, rows: list[int], **options: Any) -> list[tuple[bytes | None, str | None]]:
    found = list(read_images(path, rows=rows, **options))
    assert [image.row for image in found] == rows
    return [(image.data, image.problem) for image in found]


GOOD = shard(
    ("./", b""),
    ("000.jpg", b"jpeg"),
    ("000.txt", "ein Bär\n".encode()),
    ("README", b"belongs to no sample"),
    ("sub.dir/001.PNG", b"png"),
    ("sub.dir/001.json", b'{"caption": "a cat", "id": 7, "alt": "other"}'),
    ("._002.txt", b"resource fork"),
    ("002.txt", b"text"),
    ("002.json", b'{"alt": "other"}'),
    ("002.seg.png", b"not the image"),
    ("003.webp", b"webp"),
)


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_samples_of_every_kind(tmp_path: Path, format: int, ending: str) -> None:
    files = []
    with tarfile.open(fileobj=io.BytesIO(GOOD)) as archive:
        for member in archive.getmembers():
            content = archive.extractfile(member)
            files.append((member.name, content.read() if content else b""))
    data = shard(*files, format=format)
    path = tmp_path / f"00000.tar{ending}"
    packed = {"": data, ".gz": gzip.compress(data), ".zst": pa.compress(data, "zstd", asbytes=True)}
    path.write_bytes(packed[ending])
    captions = read(path)
    assert [(c.id, c.text, c.problem) for c in captions] == [
        ("web-0", "ein Bär", None),
        ("7", "a cat", None),
        ("web-2", "text", None),
        ("web-3", "", "sample '003': it has no .txt and no .json"),
    ]
    assert [c.text for c in read(path, text_field="alt", id_field="__key__")][1:3] == ["other"] * 2
    assert [c.id for c in read(path, text_field="alt", id_field="__key__")][1:3] == [
        "sub.dir/001",
        "002",
    ]
    assert images(path, [0, 1, 2, 3]) == [
        (b"jpeg", None),
        (b"png", None),
        (None, None),
        (b"webp", None),
    ]
    assert images(path, [2], image_field="seg.png") == [(b"not the image", None)]
    assert images(path, [0], image_field="tif") == [(None, "sample '000': it has no .tif")]


def test_shards_of_a_glob_count_on(tmp_path: Path) -> None:
    for number in (0, 1):
        (tmp_path / f"{number}.tar").write_bytes(
            shard(("a.txt", b"%d" % number), ("a.jpg", b"jpeg %d" % number))
        )
    captions = read(tmp_path / "*.tar")
    assert [(c.id, c.text) for c in captions] == [("web-0", "0"), ("web-1", "1")]
    assert images(tmp_path / "*.tar", [1]) == [(b"jpeg 1", None)]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ([("a.txt", b"x"), ("a.txt", b"y")], "it has two files .txt"),
        ([("a.txt", b"\xff")], "its .txt is invalid UTF-8"),
        ([("a.json", b"{")], "invalid JSON: "),
        ([("a.json", b"[]")], "its .json is not a JSON object"),
        ([("a.json", b'{"text": "x"}')], "there is no field 'caption' (found: 'text', '__key__')"),
        ([("a.json", b'{"caption": 1}')], "'caption' must be a string, not a number"),
        ([("a.jpg", b"")], "it has no .txt and no .json"),
    ],
)
def test_a_bad_sample_is_one_bad_row(
    tmp_path: Path, files: list[tuple[str, bytes]], problem: str
) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(shard(("0.txt", b"good"), *files, ("z.txt", b"good")))
    captions = read(path)
    assert [caption.text for caption in captions] == ["good", "", "good"]
    assert (captions[1].problem or "").startswith(f"sample 'a': {problem}")


@pytest.mark.parametrize("cut", range(1, len(GOOD), 700))
def test_half_a_tar_stops(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.tar"
    # The end marker is two blocks of zeros, padded to 10 KiB: one block is enough.
    end = len(GOOD.rstrip(b"\0")) // 512 * 512 + 1024
    path.write_bytes(GOOD[:cut])
    if cut >= end:
        assert len(read(path)) == 4
        return
    with pytest.raises(CaptionSourceError, match=r"a\.tar, (at its start|after sample '.*'): dam"):
        read(path)


def test_names_in_the_archive_never_become_paths(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "secret.jpg").write_text("secret")
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / "a.tar"
    path.write_bytes(
        shard(
            ("../secret.txt", b"climbs"),
            (f"{tmp_path}/secret.txt", b"absolute"),
            ("/etc/x\ny.txt", b"new line"),
        )[: 3 * 1024]
        + header("link.txt", 0, tarfile.SYMTYPE, str(tmp_path / "secret.txt"))
        + header("link.jpg", 0, tarfile.SYMTYPE, str(tmp_path / "secret.jpg"))
        + header("hard.txt", 0, tarfile.LNKTYPE, "../secret.txt")
        + header("pipe.txt", 0, tarfile.FIFOTYPE)
        + bytes(1024)
    )
    captions = read(path)
    assert [(c.text, c.problem) for c in captions] == [
        ("climbs", None),
        ("absolute", None),
        ("new line", None),
        ("", "sample 'link': its .txt is not a regular file"),
        ("", "sample 'hard': its .txt is not a regular file"),
        ("", "sample 'pipe': its .txt is not a regular file"),
    ]
    assert images(path, [3]) == [(None, "sample 'link': its .jpg is not a regular file")]
    assert sorted(item.name for item in tmp_path.rglob("*")) == [
        "a.tar",
        "in",
        "secret.jpg",
        "secret.txt",
    ]


def test_a_member_that_claims_a_gigabyte(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    start = shard(("0.txt", b"good"))[:1024]
    for name, limit in (("a.txt", "16,777,216"), ("a.jpg", "268,435,456")):
        with open(path, "wb") as file:  # sparse: a gigabyte of zeros is there
            file.write(start + header(name, 1 << 30))
            file.seek(1 << 30, io.SEEK_CUR)
            file.write(bytes(1024))
        kind = name.removeprefix("a")
        problem = read(path)[1].problem if kind == ".txt" else images(path, [1])[0][1]
        assert problem == f"sample 'a': its {kind} has 1,073,741,824 bytes, the limit is {limit}"
        path.write_bytes(start + header(name, 1 << 30) + b"only this")
        with pytest.raises(CaptionSourceError, match=r"a\.tar, after sample '(0|a)': damaged"):
            read(path)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_an_extended_header_that_claims_a_gigabyte(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(shard(("0.txt", b"good"))[:1024] + header("x", 1 << 30, kind) + bytes(2048))
    with pytest.raises(CaptionSourceError, match="impossible size"):
        read(path)


def test_sizes_that_would_go_backward(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    negative = bytearray(header("a.txt", 0))
    negative[124:136] = b"\xff" * 10 + (-1024).to_bytes(2, "big", signed=True)
    negative[148:156] = b" " * 8
    negative[148:156] = b"%06o\0 " % sum(negative)
    path.write_bytes(bytes(negative) + bytes(1024))
    with pytest.raises(CaptionSourceError, match="impossible size"):
        read(path)
    pax = b"18 size=-99999999\n"
    path.write_bytes(
        header("x", len(pax), b"x") + pax.ljust(512, b"\0") + header("a.txt", 0) + bytes(1024)
    )
    with pytest.raises(CaptionSourceError, match="damaged archive"):
        read(path)


def test_a_chain_of_extended_headers(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    name = b"12 path=abc\n".ljust(512, b"\0")
    path.write_bytes((header("x", 12, b"x") + name) * 5000 + bytes(1024))
    with pytest.raises(CaptionSourceError, match="damaged archive"):
        read(path)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 8000), st.integers(0, 255)), max_size=6),
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 511), st.binary(max_size=8)), max_size=2),
    st.booleans(),
)
def test_wild_changes_of_a_tar(
    bytes_changed: list[tuple[int, int]], headers: list[tuple[int, int, bytes]], repaired: bool
) -> None:
    content = bytearray(GOOD)
    for place, byte in bytes_changed:
        content[place] = byte
    for block, place, patch in headers:
        place = block * 512 + place
        content[place : place + len(patch)] = patch
    if repaired:  # checksums that fit get further
        for start in range(0, len(content), 512):
            block = content[start : start + 512]
            if block[257:262] == b"ustar":
                block[148:156] = b" " * 8
                content[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    fields = Fields("a.tar", "caption", "id")
    wanted = Fields("a.tar", "caption", "id", webdataset.IMAGE_EXTENSIONS, wants=lambda row: True)
    counts = []
    for asked in (fields, wanted):
        try:
            counts.append(sum(1 for _ in webdataset.read_webdataset(io.BytesIO(content), asked)))
        except (CaptionSourceError, OSError):  # OSError: a seek out of all bounds
            counts.append(-1)
    assert len(set(counts)) == 1


RUN = """
from synthvlm.captions.readers.sources import read_captions, read_images
def run(path):
    count = sum(1 for _ in read_captions(path, name="web", normalize=str))
    return sum(len(image.data) for image in read_images(path, rows=range(count)))
"""


def test_memory_does_not_grow_with_the_shard(tmp_path: Path) -> None:
    image = bytes(1 << 16)
    for name, count in (("small.tar", 20), ("large.tar", 1600)):
        with tarfile.open(tmp_path / name, "w") as archive:
            for number in range(count):
                for ending, content in (("txt", b"text"), ("jpg", image)):
                    info = tarfile.TarInfo(f"{number:06}.{ending}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    assert (tmp_path / "large.tar").stat().st_size > 100e6
    small, large = ((str(tmp_path / name),) for name in ("small.tar", "large.tar"))
    size, grown_kib = growth(RUN, small, large)
    assert size == 1600 << 16
    assert grown_kib < 10_000


def test_memory_does_not_grow_with_the_members(tmp_path: Path) -> None:
    two = shard(("a.txt", b"one"), ("b.txt", b"two"))[:2048]
    for name, count in (("small.tar", 10), ("large.tar", 20_000)):
        (tmp_path / name).write_bytes(two * count + bytes(1024))
    small, large = ((str(tmp_path / name),) for name in ("small.tar", "large.tar"))
    _, grown_kib = growth(RUN.replace("len(image.data)", "1"), small, large)
    assert grown_kib < 10_000


def test_json_in_a_sample_may_be_long_text(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    text = json.dumps({"caption": "x" * 200_000}).encode()
    path.write_bytes(shard(("a.json", text)))
    (caption,) = read(path)
    assert "200,000 characters, the limit is 100,000" in (caption.problem or "")
    assert list(read_images(path, rows=[])) == []
    assert list(read_images(path, rows=[0])) == [OriginalImage(0, None)]


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
@pytest.mark.parametrize("blocks", [0, 1, 20, 50])
def test_archives_one_behind_another(tmp_path: Path, ending: str, blocks: int) -> None:
    parts = [shard((f"{n}.txt", f"text {n}".encode()), (f"{n}.jpg", b"%d" % n)) for n in range(3)]
    data = bytes(512 * blocks).join([shard(), *parts, shard()]) + bytes(512 * blocks)
    packed = {"": data, ".gz": gzip.compress(data), ".zst": pa.compress(data, "zstd", asbytes=True)}
    path = tmp_path / f"a.tar{ending}"
    path.write_bytes(packed[ending])
    assert [caption.text for caption in read(path)] == ["text 0", "text 1", "text 2"]
    assert images(path, [1, 2]) == [(b"1", None), (b"2", None)]
    # One that was cut off is named, and so is what is no archive.
    path = tmp_path / "b.tar"
    for tail, problem in [
        (parts[1][:700], "unexpected end of data"),
        (parts[1][:300], "something else than an archive"),
        (b"# some text of 20 byt" * 50, "something else than an archive"),
    ]:
        path.write_bytes(parts[0] + bytes(512 * blocks) + tail)
        with pytest.raises(CaptionSourceError, match=f"damaged archive: .*{problem}"):
            read(path)


def test_a_compressed_archive_by_another_name(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    for pack in (
        gzip.compress,
        lzma.compress,
        lambda data: pa.compress(data, "zstd", asbytes=True),
    ):
        path.write_bytes(pack(GOOD))
        assert [caption.text for caption in read(path)][:2] == ["ein Bär", "a cat"]


def test_captions_in_a_list_of_a_sample(tmp_path: Path) -> None:
    texts = {"captions": ["a", "b"], "id": 7, "similarity": float("nan")}
    files = [("0.json", json.dumps(texts).encode()), ("0.jpg", b"zero")]
    files += [("1.json", b'{"captions": "c"}'), ("1.jpg", b"one")]
    path = tmp_path / "a.tar"
    path.write_bytes(shard(*files))
    captions = read(path, text_field="captions")
    found = [(caption.id, caption.text, caption.problem) for caption in captions]
    assert found == [("7-0", "a", None), ("7-1", "b", None), ("web-2", "c", None)]
    expected: list[tuple[bytes | None, str | None]] = [
        (b"zero", None), (b"zero", None), (b"one", None)
    ]  # fmt: skip
    assert images(path, [0, 1, 2], text_field="captions") == expected
    assert images(path, [1, 2], text_field="captions") == expected[1:]
    assert images(path, [0, 1]) == expected[1:]
    # More than are read ahead, and the image before its captions.
    many = json.dumps({"captions": ["x"] * 40}).encode()
    path.write_bytes(shard(("0.jpg", b"zero"), ("0.json", many), ("1.jpg", b"one")))
    assert images(path, [39, 40], text_field="captions") == expected[1:]
