"""`synthvlm captions`: what it prints of a run."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

import synthvlm
from synthvlm.cli import app
from synthvlm.run_folder.folder import RunFolder

KEPT_RUN = Path(__file__).parents[1] / "data" / "kept_run"


def test_the_command_prints_captions_and_their_reasons() -> None:
    options = ["--rejected", "--rule", "char_rep_ratio", "--search", "2342161584"]
    done = CliRunner().invoke(app, ["captions", str(KEPT_RUN), *options])
    assert done.exit_code == 0, done.output
    first, text, measures, _, count = done.output.splitlines()
    assert first == "digits  rejected by char_rep_ratio: 0.235294, must be at most 0.09373663"
    assert text.strip() == "4815162342 2342161584 4815162342 2342161584"
    assert measures.strip() == "char_rep_ratio 0.2353 (at most 0.09374)"
    assert count == "1 of 6 captions"


def test_json_is_an_object_a_line() -> None:
    done = CliRunner().invoke(app, ["captions", str(KEPT_RUN), "--kept", "--json"])
    rows = [json.loads(line) for line in done.output.splitlines()]
    assert [(row["id"], row["kept"], row["reason"]) for row in rows] == [
        ("first", True, None), ("second", True, None), ("third", True, None)
    ]  # fmt: skip
    assert rows[0]["measures"]["perplexity"]["max"] == 100.0
    assert rows[0]["measures"]["alnum_ratio"] == {"value": 23 / 28, "min": 0.6, "max": None}


def test_the_function_has_what_the_command_prints_and_the_captions_themselves() -> None:
    found = synthvlm.read_captions(KEPT_RUN, kept=False, rule="char_rep_ratio")
    assert [caption.id for caption in found] == [caption.id for caption in found] == ["digits"]
    options = ["--rejected", "--rule", "char_rep_ratio"]
    printed = CliRunner().invoke(app, ["captions", str(KEPT_RUN), *options]).output
    assert found.text() + "\n" == printed
    (row,) = found.values()["captions"]
    assert (row["id"], row["rejected_by"], row["kept"]) == ("digits", "char_rep_ratio", False)


def test_samples_say_that_they_are_some() -> None:
    *shown, count = synthvlm.read_captions(KEPT_RUN, sample=2).lines()
    assert len(shown) == 2
    assert count == "6 of 6 captions; 2 of them are shown, chosen by a hash of their id"


def test_texts_cannot_act_on_the_terminal_or_look_like_ours(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.prepare()
    run.write("recipe.yaml", (KEPT_RUN / "recipe.yaml").read_bytes())
    table = pq.read_table(KEPT_RUN / "captions", partitioning=None).slice(0, 1)
    bad = pa.array(["\x1b[2J\u202egod\nsecond  kept"])
    for name in ("id", "text"):
        table = table.set_column(table.schema.get_field_index(name), name, bad)
    facts = {"captions": 1, "kept": 1, "measures": "m"}
    run.commit("curate", 0, "c", [run.write_table("captions", 0, table)], facts)
    done = CliRunner().invoke(app, ["captions", str(tmp_path / "run")])
    assert not {"\x1b", "\u202e"} & set(done.output)
    assert len(done.output.splitlines()) == 5
    assert r"\x1b[2J\u202egod\nsecond  kept  kept" in done.output


def test_folders_without_captions_are_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["captions", str(tmp_path)])
    assert (done.exit_code, "is not a run folder" in done.output) == (1, True)


def test_a_run_elsewhere_is_read() -> None:
    files = fsspec.filesystem("memory")
    files.put(str(KEPT_RUN) + "/", "/kept-for-captions", recursive=True)
    try:
        (*_, count) = synthvlm.read_captions("memory://kept-for-captions").lines()
        assert count == "6 of 6 captions"
    finally:
        files.rm("/kept-for-captions", recursive=True)
