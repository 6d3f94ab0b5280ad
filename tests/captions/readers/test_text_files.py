"""Text files as people have them: other line ends, Flickr8k's files; and files of another kind."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import pytest
from reading import Read

from synthvlm.captions.readers.sources import read_captions, read_images, source_digest
from synthvlm.errors import CaptionSourceError

TEXTS = ["a red circle on white", "two blue squares", "a green star"]
GZ = gzip.compress(b"A red bus\n", mtime=0)
FLICKR = (
    "image_name| comment_number| comment\n1.jpg| 0| A man , a dog\n1.jpg| 1| A dog\n2.jpg 4 A\n"
)
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\r\r\n"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_every_line_end(tmp_path: Path, name: str, end: str) -> None:
    lines = {
        "a.txt": TEXTS,
        "a.jsonl": [f'{{"caption": "{text}"}}' for text in TEXTS],
        "a.csv": ["caption", *TEXTS],
    }[name]
    if name == "a.csv" and end == "\r\r\n":
        return  # a blank row between any two
    for content in (end.join(lines), end.join([*lines, ""])):
        assert [text.strip() for text in Read(tmp_path, name, content).texts] == TEXTS


def test_carriage_returns_as_line_ends_are_said(tmp_path: Path) -> None:
    read = Read(tmp_path, "a.txt", "\r".join(TEXTS))
    assert read.notes == ["note: lines end in a carriage return"]
    mixed = Read(tmp_path, "a.txt", "\r".join(TEXTS) + "\r" + "\n".join(TEXTS))
    assert mixed.texts == TEXTS * 2
    # A stray one in many lines is a blank in a caption.
    stray = "".join(f"caption {n}\n" for n in range(50)) + "a\rb\n"
    assert Read(tmp_path, "a.txt", stray).texts[-1] == "a\rb"
    assert source_digest(read.path) == source_digest(Read(tmp_path, "b.txt", stray).path)
    as_lines, as_one = (Read(tmp_path, f"{n}.txt", "a\rb\rc").path for n in "cd")
    assert source_digest(as_lines) != source_digest(as_one, format="jsonl")


TOKENS = "1000.jpg#0\tA child in a pink dress .\n1000.jpg#1\tA girl, going .\n22.jpg.1#0\tA dog\n"
KAGGLE = (
    "image,caption\n1000.jpg,A child in a pink dress .\n"
    '1000.jpg,"A girl, going ."\n22.jpg.1,A dog\n'
)
RESULTS = (
    "image_name| comment_number| comment\n1000.jpg| 0| A child in a pink dress .\n"
    "1000.jpg| 1| A girl, going .\n22.jpg.1| 0| A dog\n"
)


@pytest.mark.parametrize(
    ("name", "content", "is_said"),
    [
        ("Flickr8k.token.txt", TOKENS, True),
        ("results_20130124.token", TOKENS, False),
        ("captions.txt", KAGGLE.replace("22.jpg.1", "22.jpg"), True),
    ],
)
def test_flickr_as_published(tmp_path: Path, name: str, content: str, is_said: bool) -> None:
    read = Read(tmp_path, name, content)
    assert read.texts == ["A child in a pink dress .", "A girl, going .", "A dog"]
    assert [identity.replace("jpg.1", "jpg") for identity in read.ids] == [
        "1000.jpg#0",
        "1000.jpg#1",
        "22.jpg#0",
    ]
    assert len(read.said) == is_said


@pytest.mark.parametrize("content", [TOKENS, KAGGLE, RESULTS])
def test_flickr_named(tmp_path: Path, content: str) -> None:
    read = Read(tmp_path, "any.csv", content, format="flickr")
    assert read.ids == ["1000.jpg#0", "1000.jpg#1", "22.jpg.1#0"]
    assert read.texts == ["A child in a pink dress .", "A girl, going .", "A dog"]
    assert read.said == []
    (tmp_path / "1000.jpg").write_bytes(b"picture")
    images = list(read_images(read.path, rows=[0, 1], format="flickr"))
    assert [image.data for image in images] == [b"picture", b"picture"]


def test_flickr_rows_that_are_not(tmp_path: Path) -> None:
    good = "".join(f"{n}.jpg#0\tA dog\n" for n in range(9))
    bad = Read(tmp_path, "a.token", good + "no tab\n" + good[:-1] + "\xe9").captions[9]
    assert bad.problem == "line 10: it is not IMAGE#NUMBER, a tab or blanks, and a caption"
    row = Read(tmp_path, "a.csv", RESULTS + "219.jpg| 4   A dog\n", format="flickr").captions[3]
    assert row.problem == "line 5: 2 columns, but the header has 3"
    # Most lines are no such ones: it is a text file of something else.
    assert Read(tmp_path, "a.txt", good + "a dog\n").said == []


def test_captions_that_only_mention_files_are_captions(tmp_path: Path) -> None:
    texts = ["the file a.jpg#1 on a screen", "image,caption", "a.jpg, a dog"]
    assert Read(tmp_path, "a.txt", "\n".join(texts)).texts == texts


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.txt",
            "a dog\n".encode("utf-16"),
            "is UTF-16; save the file as UTF-8: iconv -f UTF-16 -t UTF-8 .*a.txt > NEW",
        ),
        ("a.csv", "id,caption\n1,a dog\n".encode("utf-16-le"), "is UTF-16LE; .* -f UTF-16LE "),
        ("a.jsonl", '{"caption": "a dog"}'.encode("utf-16-be"), "is UTF-16BE; "),
        ("a.json", "[]".encode("utf-32"), "is UTF-32; "),
        ("a.csv", b"id,caf\xe9\n1,a\n", "line 1: invalid UTF-8; .* iconv -f WINDOWS-1252"),
        ("a.csv", b"PK\x03\x04....", "a.csv is an Excel file or a zip archive: save it as CSV"),
        ("a.csv", b"\xd0\xcf\x11\xe0....", "is an old Excel"),
        ("a.csv", b"PAR1....", "a.csv is a Parquet file: rename it to .*a.csv.parquet"),
        ("a.txt", b"%PDF-1.7\n", "is a PDF"),
        ("a.txt", b"\x80\x04\x95....", "is a pickle, which is never read"),
        ("a.tsv", b"<!DOCTYPE html>\n<html>", "is a web page: download"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid", "run git lfs pull"),
        (
            "a.txt.gz",
            b"a dog\n",
            "cannot be read: Not a gzip.*: if it is not compressed, rename it to .*a.txt$",
        ),
        ("a.txt.bz2", b"a dog\n", "if it is not compressed, rename it to .*a.txt$"),
        ("a.txt.xz", b"a dog\n", "if it is not compressed, rename it to .*a.txt$"),
        ("a.txt.zst", b"a dog\n", "if it is not compressed, rename it to .*a.txt$"),
        ("results.csv", FLICKR, "add --set sources.0.text_field=comment"),
        ("lines.csv", '{"caption": "a"}\n{"caption": "b"}\n', "--set sources.0.format=jsonl"),
        ("list.csv", '[{"caption": "a"}]', "--set sources.0.format=json"),
        ("list.tsv", '[\n{"caption": "a"}]', "--set sources.0.format=json"),
        (
            "title.csv",
            "# 2024\n\nid,caption\n1,a\n",
            "in line 3: remove the lines above it: tail",
        ),
        ("two.txt.gz", gzip.compress(GZ), "compressed within another compression"),
        ("b.txt.gz", bz2.compress(b"A red bus\n"), r"a .bz2 file: rename it to .*/b.txt.bz2$"),
        ("end.txt.gz", GZ + b"garbage", "something else follows the compressed part"),
        ("lfs.parquet", LFS, "is a Git LFS pointer: run git lfs pull"),
        ("zip.parquet", b"PK\3\4" + bytes(300), "is an Excel file or a zip archive"),
    ],
)
def test_a_file_that_cannot_be_read_says_what_mends_it(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(CaptionSourceError, match=message) as caught:
        Read(tmp_path, name, content)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_glob_says_of_many_files_is_said_once(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.csv").write_text(f"id;caption\n{number};a dog\n")
    read = Read(tmp_path, "[0-4].csv", "id;caption\n9;a dog\n")
    read.path.unlink()
    said: list[str] = []
    list(read_captions(tmp_path / "*.csv", name="web", normalize=str, say=said.append))
    assert said == [
        f"note: {tmp_path}/0.csv: fields are separated by ';'",
        f"note: {tmp_path}/*.csv: fields are separated by ';' (5 files)",
    ]


@pytest.mark.parametrize(
    ("name", "content", "end"),
    [
        (
            "a.csv",
            'id,caption\n1,"a \\"b\\", c"\n',
            '; where a quote is written \\", write it twice: ""',
        ),
        ("a.jsonl", '{"caption": "a"},\n', "ends in a comma: remove it (sed 's/,[[:space:]]*$//')"),
        ("b.jsonl", '{"caption": {"en": "a b"}}\n', "--set sources.0.text_field=caption.en"),
    ],
)
def test_a_bad_row_says_what_mends_it(tmp_path: Path, name: str, content: str, end: str) -> None:
    (bad, *_) = Read(tmp_path, name, content).captions
    assert (bad.problem or "").endswith(end)


def test_the_advised_text_of_an_object_is_read(tmp_path: Path) -> None:
    line = '{"caption": {"en": "A red bus"}}\n'
    assert Read(tmp_path, "a.jsonl", line, text_field="caption.en").texts == ["A red bus"]
    table = Read(tmp_path, "a.csv", FLICKR.removesuffix("2.jpg 4 A\n"), text_field="comment")
    assert table.texts == ["A man , a dog", "A dog"]


def test_a_first_line_of_excel_names_the_delimiter(tmp_path: Path) -> None:
    table = Read(tmp_path, "a.csv", 'sep=;\r\nid;caption\r\n1;"a, b; c"\r\n2;d;e\r\n')
    assert [(row.id, row.text_raw) for row in table.captions[:1]] == [("1", "a, b; c")]
    assert (table.captions[1].problem or "").startswith("line 4: 3 columns")


def test_captions_of_flickr_behind_blanks(tmp_path: Path) -> None:
    lines = "1_a.jpg#0 A child #1\n1_a.jpg#1\tA girl\n"
    read = Read(tmp_path, "a.txt", lines, format="flickr")
    assert (read.ids, read.texts) == (["1_a.jpg#0", "1_a.jpg#1"], ["A child #1", "A girl"])
