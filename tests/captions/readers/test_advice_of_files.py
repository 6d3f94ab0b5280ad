"""Files that are not what their names say, or not quite: each told with what mends it."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import pytest
from reading import Read

from synthvlm.errors import CaptionSourceError

GZ = gzip.compress(b"A red bus\n", mtime=0)
FLICKR = (
    "image_name| comment_number| comment\n1.jpg| 0| A man , a dog\n1.jpg| 1| A dog\n2.jpg 4 A\n"
)
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
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
    with pytest.raises(CaptionSourceError, match=message):
        Read(tmp_path, name, content)


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
