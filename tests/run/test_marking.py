"""Pairs marked as bad: out of the next selection and export, and back when unmarked."""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest

import synthvlm
from synthvlm import Pipeline, SynthVLMError
from synthvlm.errors import RunFolderError
from synthvlm.run.kept_recipe import open_folder, resumed_recipe
from synthvlm.run_folder.folder import RunFolder, StoredFile
from synthvlm.run_folder.marks import Mark, Marks, add_marks, read_marks
from synthvlm.stages.current import CurrentWork
from synthvlm.stages.summary import describe


@pytest.fixture
def run(exported_run: Path, tmp_path: Path) -> Path:
    """Three exported pairs: first, second, third."""
    return Path(shutil.copytree(exported_run, tmp_path / "run"))


def again(run: Path, until: str = "export") -> str:
    """Run it again; what its selection did."""
    change = f"sources.0.path={run}/kept_captions.jsonl"
    done = Pipeline(resumed_recipe(run, overrides=[change]), run).run(until)
    return next(describe(one) for one in done.summaries if one.stage == "select")


def selected(run: Path) -> list[str]:
    return sorted(pq.read_table(run / "selection.parquet")["caption_id"].to_pylist())


def report(run: Path) -> str:
    again(run, "report")
    return (run / "report/index.html").read_text()


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_a_marked_pair_is_out_of_selection_and_export_and_counted(run: Path) -> None:
    (run / "done/select/00000.json").unlink()  # of a version whose card had less
    again(run)
    before, data_set = selected(run), content(run / "dataset")
    assert "first" in before
    assert CurrentWork(*open_folder(str(run))).outdated is None

    synthvlm.mark(run, "first", reason="ugly", note="<b>blurred</b>")
    outdated = CurrentWork(*open_folder(str(run))).outdated
    assert outdated is not None
    assert outdated.stage == "select"
    assert "3 pairs selected, 1 left out as marked" in again(run)
    assert selected(run) == sorted(set(before) - {"first"})
    rows = json.loads((run / "dataset/llava.json").read_text())
    assert [row["id"] for row in rows] == sorted(set(before) - {"first"})
    card = (run / "dataset/README.md").read_text()
    assert "| pairs left out as marked by hand (ugly: 1) | 1 |" in card
    assert "blurred" not in card
    assert "1 pairs are left out because somebody marked them as bad: ugly." in report(run)
    assert synthvlm.verify(run).findings == ()
    assert "1 left out as marked (up to date" in again(run)
    assert CurrentWork(*open_folder(str(run))).outdated is None

    synthvlm.mark(run, "first", remove=True)
    assert "marked" not in again(run)
    assert selected(run) == before
    assert content(run / "dataset") == data_set


def test_marks_are_listed_and_taken_back(run: Path) -> None:
    assert synthvlm.mark(run).text() == "no pair is marked"
    synthvlm.mark(run, "third", "first", note="two\nlines")
    marks = synthvlm.mark(run, "first", reason="unsafe")
    assert marks.text().splitlines() == [
        "third  wrong  two lines",
        "first  unsafe",
        "2 marked: the next selection leaves them out",
    ]
    (mark,) = synthvlm.mark(run, "first", remove=True).values()["marks"]
    assert (mark["caption_id"], mark["reason"], mark["is_current"]) == ("third", "wrong", True)


@pytest.mark.parametrize(
    ("ids", "more", "message"),
    [
        (["first", "nobody"], {}, "the caption 'nobody' has no pair"),
        (["odd"], {}, "the caption 'odd' has no pair"),  # rejected by a rule
        (["first"], {"remove": True}, "the caption 'first' has no mark"),
        (["first"], {"reason": "x" * 41}, "the reason of a mark has one line of at most 40"),
        (["first"], {"reason": " "}, "a mark needs a reason, such as wrong; to take .*: --remove"),
        (["first"], {"reason": "a\nb"}, "the reason of a mark has one line"),
        (["first"], {"note": "x" * 2001}, "has at most 2,000 characters, not 2,001"),
    ],
)
def test_what_cannot_be_marked_is_one_line_and_marks_nothing(
    run: Path, ids: list[str], more: dict[str, object], message: str
) -> None:
    with pytest.raises(SynthVLMError, match=message) as error:
        synthvlm.mark(run, *ids, **more)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert not (run / "marks").exists()


def test_a_mark_is_of_an_image_not_of_whatever_follows_it(run: Path) -> None:
    folder = RunFolder(run)
    add_marks(folder, [Mark("first", 0, "of an earlier image", "wrong")])
    marks = synthvlm.mark(run)
    assert [one.is_current for one in marks.marks] == [False]
    assert "(of an earlier image)" in marks.text()
    before = selected(run)
    again(run, "select")
    assert selected(run) == before


def test_many_writers_at_once_lose_no_mark(tmp_path: Path) -> None:
    def write(writer: int) -> None:
        folder = RunFolder(tmp_path)
        for number in range(20):
            add_marks(folder, [Mark(f"{writer}-{number}", 0, "x", "wrong")])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(read_marks(RunFolder(tmp_path))) == 80


def test_the_last_word_does_not_depend_on_clocks(run: Path) -> None:
    synthvlm.mark(run, "first")
    (file,) = (run / "marks").iterdir()
    line = json.loads(file.read_text())
    file.unlink()
    ahead = time.time_ns() + 3600 * 10**9
    later = run / f"marks/{ahead:020d}-of-a-clock-ahead.jsonl"
    later.write_text(json.dumps({**line, "time": ahead / 1e9}) + "\n")
    assert len(synthvlm.mark(run, "first", reason="ugly").marks) == 1
    assert synthvlm.mark(run).marks[0].mark.reason == "ugly"
    assert synthvlm.mark(run, "first", remove=True).marks == []


def test_a_mark_is_written_again_where_a_run_that_began_swept_it(tmp_path: Path) -> None:
    class Swept(RunFolder):
        attempts = 0

        def write(self, name: str, data: bytes) -> StoredFile:
            self.attempts += 1
            if self.attempts == 1:
                raise RunFolderError("cannot write") from FileNotFoundError()
            return super().write(name, data)

    add_marks(Swept(tmp_path), [Mark("a", 0, "x", "wrong")])
    assert len(read_marks(RunFolder(tmp_path))) == 1


def test_a_run_on_an_object_store_is_marked() -> None:
    files = fsspec.filesystem("memory")
    try:
        for id, reason in (("a", "wrong"), ("b", "ugly"), ("a", "")):
            add_marks(RunFolder("memory://marked"), [Mark(id, 0, "x", reason)])
        marks = read_marks(RunFolder("memory://marked"))
        assert [(mark.caption_id, mark.reason) for mark in marks.values()] == [("b", "ugly")]
    finally:
        files.rm("/marked", recursive=True)


def test_a_damaged_line_costs_only_itself_and_is_told(run: Path) -> None:
    synthvlm.mark(run, "first", "second", "third")
    (file,) = (run / "marks").iterdir()
    first, _, third = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + b'{"caption_id": "b", "time": 1}\n[1]\n' + third[:-5])
    problem = "3 damaged lines in marks/ are no marks: what they said is lost, look at the pairs"
    warning, mark, _ = synthvlm.mark(run).text().splitlines()
    assert warning.startswith(f"warning: {problem}")
    assert mark.startswith("first")
    again(run, "select")
    assert selected(run) == ["second", "third"]
    facts = json.loads((run / "done/select/00000.json").read_text())["facts"]
    assert any(note.startswith(problem) for note in facts["notes"])


def test_the_last_mark_of_an_image_counts_and_notes_change_no_selection() -> None:
    marks = [Mark("a", 0, "x", "wrong", "one"), Mark("b", 0, "x", "ugly"), Mark("a", 0, "x", "")]
    assert [mark.caption_id for mark in Marks(marks).values()] == ["b"]
    assert Marks(marks).identity == Marks([Mark("b", 0, "x", "ugly", "other note")]).identity
    assert Marks(marks).identity != Marks([Mark("b", 0, "x", "wrong")]).identity
    assert Marks([*marks, Mark("b", 0, "x", "")]).identity == []
