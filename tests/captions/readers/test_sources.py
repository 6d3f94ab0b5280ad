"""Reading captions from files of every format, the broken ones too."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthvlm.captions.readers.normalize import normalize
from synthvlm.captions.readers.sources import MAX_CAPTION_CHARS, read_captions, source_digest
from synthvlm.data import Caption
from synthvlm.errors import CaptionSourceError

TEXTS = ["a cat", 'two "big" dogs, asleep', "ein  Bär — draußen", "東京の夜"]


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path | str, **options: str) -> list[Caption]:
    return list(read_captions(path, name="web", normalize=normalize, **options))


def good_file(folder: Path, format: str) -> Path:
    """A file of TEXTS with ids a0, a1, ... (none in a text file)."""
    path = folder / f"captions.{format}"
    rows = [{"id": f"a{i}", "caption": text} for i, text in enumerate(TEXTS)]
    if format == "txt":
        write(path, "\n".join(TEXTS) + "\n")
    elif format == "jsonl":
        write(path, "".join(json.dumps(row) + "\n" for row in rows))
    elif format == "json":
        write(path, json.dumps(rows))
    elif format == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif format == "csv":
        quoted = ['"' + text.replace('"', '""') + '"' for text in TEXTS]
        write(path, "id,caption\n" + "".join(f"a{i},{text}\n" for i, text in enumerate(quoted)))
    else:
        write(path, "id\tcaption\n" + "".join(f"a{i}\t{text}\n" for i, text in enumerate(TEXTS)))
    return path


FORMATS = ["txt", "jsonl", "json", "csv", "tsv", "parquet"]


@pytest.mark.parametrize("format", FORMATS)
def test_every_format(tmp_path: Path, format: str) -> None:
    captions = read(good_file(tmp_path, format))
    prefix = "web-" if format == "txt" else "a"
    assert captions == [
        Caption(f"{prefix}{i}", "web", i, text, normalize(text)) for i, text in enumerate(TEXTS)
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_format_can_be_named(tmp_path: Path, format: str) -> None:
    path = good_file(tmp_path, format).rename(tmp_path / "data")
    assert [caption.text_raw for caption in read(path, format=format)] == TEXTS


@pytest.mark.parametrize("format", ["txt", "jsonl", "json", "csv", "tsv"])
def test_byte_order_mark_crlf_and_gzip(tmp_path: Path, format: str) -> None:
    content = good_file(tmp_path, format).read_bytes()
    dos = b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")
    assert [c.text_raw for c in read(write(tmp_path / f"dos.{format}", dos))] == TEXTS
    packed = write(tmp_path / f"packed.{format}.gz", gzip.compress(content))
    assert [c.text_raw for c in read(packed)] == TEXTS


@pytest.mark.parametrize("format", FORMATS)
def test_any_file_system(tmp_path: Path, format: str) -> None:
    content = good_file(tmp_path, format).read_bytes()
    url = f"memory://captions/{format}/file.{format}"
    with fsspec.open(url, "wb") as file:
        file.write(content)
    assert [caption.text_raw for caption in read(url)] == TEXTS
    first = source_digest(url)
    assert first == source_digest(url)
    with fsspec.open(url, "wb") as file:
        file.write(content + b"\n")
    assert source_digest(url) != first


def test_own_field_names_and_integer_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"key": 7, "alt": "x"}\n{"key": "", "alt": "y"}\n')
    captions = read(path, text_field="alt", id_field="key")
    assert [(caption.id, caption.text) for caption in captions] == [("7", "x"), ("web-1", "y")]


def problems(captions: list[Caption]) -> list[str | None]:
    for caption in captions:
        assert caption.problem is None or (caption.text == "" and "\n" not in caption.problem)
    assert [caption.row for caption in captions] == list(range(len(captions)))
    return [caption.problem for caption in captions]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"caption": "x"', "invalid JSON"),
        (b'{"caption": NaN}', "'caption' must be a string, not a number"),
        (b'{"caption": "a \\ud800"}', "the caption holds half of a surrogate pair"),
        (b'{"caption": "\xff"}', "the caption holds invalid UTF-8"),
        (b'{"caption": "x", "caption": "y"}', "two of its fields are named 'caption'"),
        (b'{"caption": "x", "id": 1, "id": 2}', "two of its fields are named 'id'"),
        (b"[" * 100_000, "invalid JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"text": "x"}', r"no field 'caption' \(found: 'text'\)"),
        (b'{"caption": 1}', "must be a string, not a number"),
        (b'{"caption": null}', "must be a string, not null"),
        (b'{"caption": {"en": "x"}}', "must be a string, not an object"),
    ],
)
def test_a_bad_json_line_is_one_bad_row(tmp_path: Path, line: bytes, problem: str) -> None:
    good = b'{"caption": "good"}\n'
    captions = read(write(tmp_path / "a.jsonl", good + line + b"\n" + good))
    assert [caption.text for caption in captions] == ["good", "", "good"]
    first, found, last = problems(captions)
    assert first is last is None
    assert re.search("^line 2: .*" + problem, found or "")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"1", "line 3: 1 columns, but the header has 2"),
        (b"1,a cat, sitting", "line 3: 3 columns, but the header has 2"),
        (b'1,"a" cat', "line 3: invalid CSV"),
        (b"1,caf\xe9", "line 3: invalid UTF-8"),
        (b"1,nul\0byte", "line 3: "),
        (b'1,"two\nlines\xff"', "lines 3-4: invalid UTF-8"),
    ],
)
def test_a_bad_csv_line_is_one_bad_row(tmp_path: Path, line: bytes, problem: str) -> None:
    content = b"id,caption\n0,good\n" + line + b"\n2,good\n"
    captions = read(write(tmp_path / "a.csv", content))
    assert [caption.text for caption in captions] == ["good", "", "good"]
    assert (problems(captions)[1] or "").startswith(problem)


def test_csv_with_quoted_newlines_and_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'caption,id\r\n"two\r\nlines",x\r\n\r\nlast,y\r\n')
    captions = read(path)
    assert problems(captions) == [None] * 3
    assert [(caption.id, caption.text) for caption in captions] == [
        ("x", "two lines"),
        ("web-1", ""),
        ("y", "last"),
    ]


def test_an_unclosed_quote_is_one_bad_row(tmp_path: Path) -> None:
    captions = read(write(tmp_path / "a.csv", 'caption\ngood\n"never closed\nlost\n'))
    assert problems(captions) == [None, "lines 3-4: invalid CSV: unexpected end of data"]


def test_tsv_is_never_quoted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'caption\tid\na 5" pipe\t1\n"open\t2\nbad\n')
    captions = read(path)
    assert [caption.text for caption in captions] == ['a 5" pipe', '"open', ""]
    assert problems(captions)[2] == "line 4: 1 columns, but the header has 2"


def test_blank_lines_are_rows_and_the_last_newline_is_none(tmp_path: Path) -> None:
    captions = read(write(tmp_path / "a.txt", "a\n\n  \nb\n"))
    assert problems(captions) == [None] * 4
    assert [caption.text for caption in captions] == ["a", "", "", "b"]
    captions = read(write(tmp_path / "a.jsonl", '{"caption": "a"}\n\n{"caption": "b"}'))
    assert [caption.text for caption in captions] == ["a", "", "b"]


def test_a_bad_line_of_text(tmp_path: Path) -> None:
    captions = read(write(tmp_path / "a.txt", b"a\ncaf\xe9\nnul\0\n"))
    assert problems(captions)[::2] == [None, None]
    assert (problems(captions)[1] or "").startswith(
        "line 2: invalid UTF-8; if the file is in Latin"
    )
    assert captions[2].text == "nul"


@pytest.mark.parametrize("format", FORMATS)
def test_a_caption_of_a_megabyte(tmp_path: Path, format: str) -> None:
    long, most = "x" * 1_000_000, "y" * MAX_CAPTION_CHARS
    path = tmp_path / f"a.{format}"
    rows = [{"caption": text} for text in (long, most)]
    if format == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif format == "json":
        write(path, json.dumps(rows))
    elif format == "jsonl":
        write(path, "\n".join(map(json.dumps, rows)))
    else:
        write(path, ("" if format == "txt" else "caption\n") + f"{long}\n{most}\n")
    captions = read(path)
    problem = problems(captions)[0] or ""
    assert "1,000,000 characters, the limit is 100,000" in problem
    assert captions[0].text_raw == "x" * 1_000
    assert captions[1].text == most


def test_parquet_of_other_types(tmp_path: Path) -> None:
    broken = pa.array([b"ok", b"\xff", None], pa.binary()).cast(pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 3, broken.buffers())
    ids = pa.array([3, None, 5], pa.int32())
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"caption": broken, "id": ids}), path)
    captions = read(path)
    assert [(caption.id, caption.text) for caption in captions] == [
        ("3", "ok"),
        ("web-1", ""),
        ("5", ""),
    ]
    assert problems(captions) == [
        None,
        "row 2: invalid UTF-8",
        "row 3: 'caption' must be a string, not null",
    ]
    for kind in (pa.dictionary(pa.int8(), pa.string()), pa.large_string()):
        pq.write_table(pa.table({"caption": pa.array(["x", "y"], kind)}), path)
        assert [caption.text for caption in read(path)] == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "holds no captions"),
        ("a.txt", b"\xef\xbb\xbf", "holds no captions"),
        ("a.csv", b"", "holds no captions"),
        ("a.csv", b"id,caption\n", "holds no captions"),
        ("a.json", b"[]", "holds no captions"),
        (
            "a.json",
            b'[{"caption": "x"},\n{"caption": }]',
            "a.json, line 2, column 13: invalid JSON",
        ),
        ("a.json", b"", "invalid JSON"),
        ("a.json", b"null", "expected a JSON list of objects"),
        ("a.json", b'"a cat"', "expected a JSON list of objects"),
        ("a.json", b'{"a": 1}', "this JSON object holds no 'caption'"),
        ("a.parquet", b"no parquet", "not a usable Parquet file"),
        ("a.parquet", b"", "not a usable Parquet file"),
        ("a.txt.gz", gzip.compress(b"x" * 99_999)[:60], "cannot be read"),
        ("a.csv", b"id,captoin\n1,x\n", "no column 'caption', only 'id', 'captoin'; did you mean"),
        ("a.tsv", b"text\nx\n", "no column 'caption', only 'text'$"),
        ("a.xlsx", b"x", "a.xlsx is a spreadsheet: save it as CSV in UTF-8"),
        ("a.docx", b"x", "cannot tell the format .* ending '.docx'; set format to one of txt,"),
        ("captions", b"x", "cannot tell the format"),
    ],
)
def test_an_unusable_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(CaptionSourceError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("format", ["csv", "tsv", "parquet"])
def test_a_named_id_column_must_exist(tmp_path: Path, format: str) -> None:
    with pytest.raises(CaptionSourceError, match="no column 'key'"):
        read(good_file(tmp_path, format), id_field="key")


def test_a_parquet_column_of_numbers_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"caption": [1, 2], "Prompt": ["x", "y"]}), path)
    with pytest.raises(
        CaptionSourceError,
        match=r"column 'caption' is int64, expected text; .* --set sources\.1\.text_field=Prompt$",
    ):
        read(path, place="sources.1")


def test_errors_that_need_no_reading_come_at_once(tmp_path: Path) -> None:
    for path, message in [
        (tmp_path / "none.txt", "no such file"),
        (tmp_path.with_suffix(".txt"), "no such file"),
        ("nosuchprotocol://a/b.txt", "nosuchprotocol"),
        ("nul\0.txt", "nul"),
    ]:
        with pytest.raises(CaptionSourceError, match=message):
            read_captions(path, name="web", normalize=normalize)
    (tmp_path / "folder.txt").mkdir()
    for call in (read, source_digest):
        with pytest.raises(CaptionSourceError, match="is a directory"):
            call(tmp_path / "folder.txt")
    with pytest.raises(CaptionSourceError, match="unknown format 'xml'"):
        read_captions(tmp_path / "a", name="web", format="xml", normalize=normalize)


def test_digest_follows_the_content(tmp_path: Path) -> None:
    one = source_digest(write(tmp_path / "a.txt", b"x" * 3_000_000))
    assert source_digest(write(tmp_path / "b.txt", b"x" * 3_000_000)) == one
    assert source_digest(write(tmp_path / "b.txt", b"x" * 3_000_001)) != one
    with pytest.raises(CaptionSourceError, match="no such file"):
        source_digest(tmp_path / "none.txt")


def test_reading_is_a_stream(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'{"caption": "x"}\n' * 200_000)
    captions = read_captions(path, name="web", normalize=normalize)
    assert next(captions).text == "x"
    captions.close()  # type: ignore[attr-defined]
