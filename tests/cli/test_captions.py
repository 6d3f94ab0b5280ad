"""The options of captions: formats, columns, no header, a delimiter, standard input."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from synthvlm.captions.rules import METHOD_RULES
from synthvlm.cli import app
from synthvlm.run.kept_recipe import open_folder

LINES = "a red circle on a white ground\ntwo blue squares beside a green star\n"
TEXTS = LINES.splitlines()
ALL_PASS = [part for rule in METHOD_RULES for part in ("--set", f"curation.rules.{rule}=null")]


def curate(out: Path, *options: str | Path, stdin: str | bytes | None = None) -> Result:
    command = ["curate", "tiny", "--out", out, *options, *ALL_PASS]
    return CliRunner().invoke(app, list(map(str, command)), input=stdin)


def rows(out: Path) -> list[tuple[str, str]]:
    """Ids and texts of all captions of a run."""
    run, _ = open_folder(str(out))
    found = []
    for marker in run.markers("curate").values():
        name = marker.file("captions")
        assert name is not None
        found += [(row["id"], row["text"]) for row in run.read_table(name).to_pylist()]
    return found


@pytest.mark.parametrize(
    ("content", "options", "ids"),
    [
        ("{0}\thttp://x/0\n{1}\thttp://x/1\n", ["--format", "cc3m"], "f-0 f-1"),
        ("http://x/0\t{0}\nhttp://x/1\t{1}\n", ["--format", "cc12m"], "f-0 f-1"),
        ("http://x/0\t{0}\nhttp://x/1\t{1}\n", ["--no-header", "--text-field", "2"], "f-0 f-1"),
        ("1.jpg#0\t{0}\n1.jpg#1\t{1}\n", ["--format", "flickr"], "1.jpg#0 1.jpg#1"),
        ("Prompt\tCategory\n{0}\tx\n{1}\tx\n", ["--text-field", "Prompt"], "f-0 f-1"),
        ("id:caption\n7:{0}\n8:{1}\n", ["--delimiter", ":"], "7 8"),
        ("7\t{0}\n8\t{1}\n", ["--delimiter", r"\t", "--no-header", "--text-field", "2"], "f-0 f-1"),
        ("id;caption\n7;{0}\n8;{1}\n", [], "7 8"),
    ],
)
def test_files_as_published_are_read_by_one_option(
    tmp_path: Path, content: str, options: list[str], ids: str
) -> None:
    (tmp_path / "f.tsv").write_text(content.format(*TEXTS))
    done = curate(tmp_path / "run", "--captions", tmp_path / "f.tsv", *options)
    assert done.exit_code == 0, done.output
    assert rows(tmp_path / "run") == list(zip(ids.split(), TEXTS, strict=True))


def test_options_are_of_all_files_named(tmp_path: Path) -> None:
    for name, text in zip("ab", TEXTS, strict=True):
        (tmp_path / f"{name}.csv").write_text(f"words\n{text}\n")
    named = [part for name in "ab" for part in ("--captions", tmp_path / f"{name}.csv")]
    done = curate(tmp_path / "run", *named, "--text-field", "words")
    assert done.exit_code == 0, done.output
    assert rows(tmp_path / "run") == [("a-0", TEXTS[0]), ("b-0", TEXTS[1])]


def test_options_without_captions(tmp_path: Path) -> None:
    done = curate(tmp_path / "run", "--text-field", "Prompt")
    assert done.exit_code == 1
    assert "are about --captions: name these too" in done.output
    assert "--set 'sources.0.text_field=\"Prompt\"'" in done.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", ["::", "a", '"', ""])
def test_what_is_no_delimiter(tmp_path: Path, value: str) -> None:
    (tmp_path / "f.csv").write_text("caption\nx\n")
    done = curate(tmp_path / "run", "--captions", tmp_path / "f.csv", "--delimiter", value)
    assert done.exit_code == 1
    assert "sources.0.delimiter: expected one character" in done.output


def test_standard_input_is_kept_and_resumed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    for expected in ("2 captions read", "up to date"):
        done = curate(out, "--captions", "-", stdin=LINES)
        assert done.exit_code == 0, done.output
        assert expected in done.output
    assert rows(out) == [("stdin-0", TEXTS[0]), ("stdin-1", TEXTS[1])]
    (kept,) = (out / "piped").iterdir()
    assert kept.read_text() == LINES
    assert f"standard input is kept as piped/{kept.name}" in done.output
    # Without it, in another place.
    shutil.move(out, tmp_path / "moved")
    done = CliRunner().invoke(app, ["curate", "--out", str(tmp_path / "moved")])
    assert done.exit_code == 0, done.output
    assert "up to date" in done.output
    # Another input is other captions.
    done = curate(tmp_path / "moved", "--captions", "-", stdin=TEXTS[1])
    assert done.exit_code == 0, done.output
    assert rows(tmp_path / "moved") == [("stdin-0", TEXTS[1])]


@pytest.mark.parametrize(
    ("stdin", "options", "ids"),
    [
        ('{{"id": 7, "caption": "{0}"}}\n{{"id": 8, "caption": "{1}"}}\n', [], "7 8"),
        ('[{{"id": 7, "caption": "{0}"}}, {{"id": 8, "caption": "{1}"}}]', [], "7 8"),
        ("id,caption\n7,{0}\n8,{1}\n", [], "7 8"),
        ("id\tcaption\n7\t{0}\n8\t{1}\n", [], "7 8"),
        ("1.jpg#0\t{0}\n1.jpg#1\t{1}\n", [], "1.jpg#0 1.jpg#1"),
        ("{0}\thttp://x/0\n{1}\thttp://x/1\n", ["--format", "cc3m"], "stdin-0 stdin-1"),
        ("7;{0}\n8;{1}\n", ["--no-header", "--text-field", "2"], "stdin-0 stdin-1"),
        ("Prompt,x\n{0},1\n{1},2\n", ["--text-field", "Prompt"], "stdin-0 stdin-1"),
    ],
)
def test_the_format_of_standard_input(
    tmp_path: Path, stdin: str, options: list[str], ids: str
) -> None:
    content = stdin.format(*TEXTS).encode()
    for number, piped in enumerate((content, gzip.compress(content))):
        out = tmp_path / f"run{number}"
        done = curate(out, "--captions", "-", *options, stdin=piped)
        assert done.exit_code == 0, done.output
        assert rows(out) == list(zip(ids.split(), TEXTS, strict=True))


def test_standard_input_that_is_empty_or_named_twice(tmp_path: Path) -> None:
    done = curate(tmp_path / "run", "--captions", "-", stdin="")
    assert (done.exit_code, "standard input is empty" in done.output) == (1, True)
    done = curate(tmp_path / "run", "--captions", "-", "--captions", "-", stdin=LINES)
    assert (done.exit_code, "two sources are named 'stdin'" in done.output) == (1, True)
    assert not (tmp_path / "run").exists()
