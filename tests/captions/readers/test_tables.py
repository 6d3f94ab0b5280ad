"""Tables as people have them: other delimiters, quotes, no header, columns by number."""

from __future__ import annotations

from pathlib import Path

import pytest
from reading import Read

from synthvlm.captions.readers.records import TableOptions
from synthvlm.captions.readers.sources import read_images, source_digest
from synthvlm.errors import CaptionSourceError

NO_HEADER = TableOptions(header=False)
NO_QUOTES = TableOptions(quoting=False)


@pytest.mark.parametrize(
    ("name", "delimiter"), [("a.csv", ";"), ("a.csv", "\t"), ("a.csv", "|"), ("a.tsv", ",")]
)
def test_another_delimiter_is_found_and_said(tmp_path: Path, name: str, delimiter: str) -> None:
    rows = [("id", "caption"), ("1", "a red circle"), ("2", "two squares")]
    content = "".join(delimiter.join(row) + "\n" for row in rows)
    read = Read(tmp_path, name, content)
    assert (read.ids, read.texts) == (["1", "2"], ["a red circle", "two squares"])
    assert read.notes == [f"note: fields are separated by {delimiter!r}"]
    named = Read(tmp_path, name, content, table=TableOptions(delimiter=delimiter))
    assert (named.texts, named.said) == (read.texts, [])


def test_a_delimiter_in_captions_is_no_other_delimiter(tmp_path: Path) -> None:
    assert Read(tmp_path, "a.csv", "caption\na;b\nc;d\n").texts == ["a;b", "c;d"]
    assert Read(tmp_path, "a.tsv", "caption\na, b\nc, d\n").texts == ["a, b", "c, d"]


def test_blanks_after_commas(tmp_path: Path) -> None:
    read = Read(tmp_path, "a.csv", 'key, caption\n1, "a, b"\n2, c\n', id_field="key")
    assert (read.ids, read.texts) == (["1", "2"], ["a, b", "c"])


def test_a_named_delimiter_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(CaptionSourceError, match=r"no column 'caption', only 'id,caption'"):
        Read(tmp_path, "a.csv", "id,caption\n1,x\n", table=TableOptions(delimiter=";"))


def test_a_stray_quote_loses_the_lines_that_it_loses(tmp_path: Path) -> None:
    rows = [f"{n},caption number {n}\n" for n in range(2, 202)]
    for end, lost, last in (("", "2-202", 201), ('500,"x"\n', "2-203", 202)):
        content = 'id,caption\n1,"a red circle\n' + "".join(rows) + end
        read = Read(tmp_path, "a.csv", content)
        (bad,) = read.captions
        assert bad.size == last
        assert (bad.problem or "").startswith(f"lines {lost}: invalid CSV: ")
        assert (bad.problem or "").endswith("add --set sources.0.quoting=false")
        whole = Read(tmp_path, "a.csv", content, table=NO_QUOTES)
        assert whole.texts[:2] == ['"a red circle', "caption number 2"]
        assert len(whole.texts) == last


@pytest.mark.parametrize(
    "content",
    [
        'id,caption\n1,"a red\n2,blue"\n3,x\n',
        'id,caption\n1,"a red\n2,blue\n3,green\n4,gray"\n9,x\n',
        'key,caption\na,"red\nb,blue\nc,green\nd,gray\ne,pink"\nf,x\n',
        'caption,id\n"a red dog,1\na blue cat,2\na green bird",3\nx,4\n',
        'caption,id\n"a red dog,1\na blue cat",2\nx,3\n',
        'image,caption,url\n1.jpg,"a dog,http://a/1\n2.jpg,a cat",http://a/2\n3.jpg,x,http://a/3\n',
        'caption,kind\n"a red dog,animal\na bus,vehicle\na bird",animal\nx,thing\n',
    ],
)
def test_rows_swallowed_between_two_stray_quotes_are_lost_not_a_caption(
    tmp_path: Path, content: str
) -> None:
    bad, good = Read(tmp_path, "a.csv", content).captions
    assert bad.size == content.count("\n") - 2
    assert "a field in quotes holds what looks like rows" in (bad.problem or "")
    assert good.text == "x"


def test_captions_of_several_lines_are_captions(tmp_path: Path) -> None:
    content = 'id,caption\n1,"A dog, brown\nand a cat"\n2,"2 dogs\n3 cats, gray"\n'
    assert Read(tmp_path, "a.csv", content).texts == [
        "A dog, brown\nand a cat",
        "2 dogs\n3 cats, gray",
    ]
    content = 'caption,id\n"A dog, 2 cats\nand a bird",1\n"A crowd of 1,000 dogs\nin a park",2\n'
    assert len(Read(tmp_path, "b.csv", content).texts) == 2
    content = 'caption,kind\n"A dog, brown\nA cat, gray\nA bird",animals\n'
    assert len(Read(tmp_path, "c.csv", content).texts) == 1


PANDAS = 'id\tcaption\n1\t"a red\ncircle"\n2\t"a ""big"" square"\n3\tplain\n'


def test_quotes_of_a_tsv_are_found_where_evident_and_said(tmp_path: Path) -> None:
    read = Read(tmp_path, "a.tsv", PANDAS)
    assert read.texts == ["a red\ncircle", 'a "big" square', "plain"]
    assert read.notes == [
        "note: fields stand in double quotes, which are taken off; if they belong to the "
        "captions, add --set sources.0.quoting=false"
    ]
    for content in ('caption\n"a ""big"" dog"\nx\n', '"id"\t"caption"\n"1"\t"a red"\n'):
        assert len(Read(tmp_path, "b.tsv", content).said) == 1
    raw = Read(tmp_path, "a.tsv", 'caption\n"a ""big"" dog"\n', table=NO_QUOTES)
    assert (raw.texts, raw.said) == (['"a ""big"" dog"'], [])
    asked = Read(tmp_path, "a.tsv", 'caption\n"a dog"\n', table=TableOptions(quoting=True))
    assert (asked.texts, asked.said) == (["a dog"], [])


@pytest.mark.parametrize(
    "rows",
    [
        ['"a quotation"', 'a 5" pipe'],
        ['"open', "x", 'close"'],
        ['"""', "x"],
        ['"a ""big"" dog"', '"open'],  # one that cannot be read in quotes: they are letters
    ],
)
def test_quotes_that_belong_to_captions_stay(tmp_path: Path, rows: list[str]) -> None:
    read = Read(tmp_path, "a.tsv", "caption\n" + "".join(f"{row}\n" for row in rows))
    assert read.texts == rows


def test_quotes_seen_too_late_are_a_warning(tmp_path: Path) -> None:
    rows = ["a caption of several words"] * 4000 + ['"a ""big"" dog"']
    read = Read(tmp_path, "a.tsv", "caption\n" + "".join(f"{row}\n" for row in rows))
    assert read.notes == [
        "warning: 1 captions stand in double quotes, with others written twice in them; to take "
        "them off, add --set sources.0.quoting=true"
    ]


CC3M = "a red circle on white\thttp://x/0.jpg\ntwo blue squares\thttps://x/1.jpg\n"
CC12M = "http://x/0.jpg\ta red circle on white\nhttps://x/1.jpg\ttwo blue squares\n"


@pytest.mark.parametrize(
    ("content", "format", "number"), [(CC3M, "cc3m", "1"), (CC12M, "cc12m", "2")]
)
def test_captions_beside_urls_without_a_header(
    tmp_path: Path, content: str, format: str, number: str
) -> None:
    expected = ["a red circle on white", "two blue squares"]
    read = Read(tmp_path, "a.tsv", content)
    assert read.texts == expected
    assert read.ids == ["web-0", "web-1"]
    (note,) = read.notes
    assert f"no header, and captions in column {number}, as in CC3M or CC12M" in note
    for name, options in (
        ("a", {"format": format}),
        ("a.tsv", {"table": NO_HEADER, "text_field": number}),
        ("a.txt", {"table": NO_HEADER, "text_field": number}),
    ):
        named = Read(tmp_path, name, content, **options)
        assert (named.texts, named.said) == (expected, [])
    # As many rows for images as for captions.
    assert len(list(read_images(read.path, rows=[0, 1], image_field="1"))) == 2


def test_a_table_without_a_header_needs_a_number(tmp_path: Path) -> None:
    content = "1;a red circle\n2;two squares\n"
    with pytest.raises(CaptionSourceError, match="no header") as caught:
        Read(tmp_path, "a.csv", content, table=NO_HEADER)
    assert str(caught.value).endswith("2: 'a red circle'; --set sources.0.text_field=2")
    read = Read(tmp_path, "a.csv", content, table=NO_HEADER, text_field="2", id_field="1")
    assert (read.ids, read.texts) == (["1", "2"], ["a red circle", "two squares"])
    one = Read(tmp_path, "a.csv", "a red circle\ntwo squares\n", table=NO_HEADER)
    assert one.texts == ["a red circle", "two squares"]
    with pytest.raises(CaptionSourceError, match="no column '3', only 'x', 'caption'"):
        Read(tmp_path, "a.csv", "x,caption\n1,x\n", text_field="3")


def test_a_header_that_looks_like_data(tmp_path: Path) -> None:
    content = "1,a red circle on white\n2,two squares\n"
    with pytest.raises(CaptionSourceError, match="no column 'caption'") as caught:
        Read(tmp_path, "a.csv", content)
    assert str(caught.value).endswith(
        "if these are data and no names, add --set sources.0.header=false "
        "--set sources.0.text_field=2"
    )
    read = Read(tmp_path, "a.csv", content, text_field="2")
    assert read.texts == ["two squares"]
    assert read.notes == [
        "warning: the first row is taken for names of columns, and looks like data: "
        "'a red circle on white'; if it is data, add --set sources.0.header=false"
    ]
    named = Read(tmp_path, "a.csv", "id,caption\n1,two squares\n", text_field="2")
    assert (named.texts, named.said) == (["two squares"], [])


def test_data_that_look_like_a_header(tmp_path: Path) -> None:
    read = Read(tmp_path, "a.csv", "id,caption\n1,x\n", table=NO_HEADER, text_field="2")
    assert read.texts == ["caption", "x"]
    (line,) = read.notes
    assert line.startswith("warning: the first row is taken for data, and looks like names")
    assert line.endswith("add --set sources.0.header=true")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_two_columns_of_one_name(tmp_path: Path, name: str) -> None:
    mark = "," if name == "a.csv" else "\t"
    content = mark.join(["caption", "id", "caption"]) + "\n" + mark.join(["a", "1", "b"]) + "\n"
    with pytest.raises(CaptionSourceError, match="2 columns are named 'caption'") as caught:
        Read(tmp_path, name, content)
    assert str(caught.value).endswith("as in --set sources.0.text_field=1")
    assert Read(tmp_path, name, content, text_field="3").texts == ["b"]
    assert Read(tmp_path, name, content.replace("caption", "x", 1)).texts == ["b"]
    with pytest.raises(CaptionSourceError, match="2 columns are named 'caption'"):
        Read(tmp_path, name, content.replace(f"{mark}caption", f"{mark} caption"))


def test_the_advice_for_a_column_is_one_that_a_shell_and_yaml_read(tmp_path: Path) -> None:
    for names, value in (
        ("Prompt\tCategory", "Prompt"),
        ("Caption\tx", "Caption"),
        ("no\tYes", "'sources.0.text_field=\"no\"'"),
        ("my words\tb", "'sources.0.text_field=\"my words\"'"),
    ):
        with pytest.raises(CaptionSourceError, match="no column 'caption'") as caught:
            Read(tmp_path, "a.tsv", f"{names}\na red bus\tc\n")
        assert str(caught.value).endswith(value)


def test_settings_of_tables_are_for_tables(tmp_path: Path) -> None:
    with pytest.raises(CaptionSourceError, match="settings of tables in text, and its format is j"):
        Read(tmp_path, "a.json", '[{"caption": "x"}]', table=NO_HEADER)
    as_lines = Read(tmp_path, "a.txt", "1\ta\n2\tb\n", text_field="2")
    assert len(as_lines.captions) == 2
    (line,) = as_lines.notes
    assert line.endswith(
        "the text field '2' of no use; if this is a table, add --set sources.0.format=tsv"
    )


def test_a_file_that_is_read_otherwise_than_before_is_another(tmp_path: Path) -> None:
    """Where an earlier version read something else, its rows must not count as these."""
    plain = Read(tmp_path, "a.tsv", "caption\nx\n").path
    assert source_digest(plain) == source_digest(plain, table=NO_QUOTES)
    quoted = Read(tmp_path, "b.tsv", PANDAS).path
    assert source_digest(quoted) != source_digest(quoted, table=NO_QUOTES)
