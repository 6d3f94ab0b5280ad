from __future__ import annotations

import errno
import json
import os
import pickle
import re
import shutil
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from fake_time import FakeTime
from synthvlm.errors import RunFolderError
from synthvlm.run_folder.folder import Marker, RunFolder, table_bytes

TABLE = pa.table({"id": ["a", "b", "c"], "n": [1, 2, 3]})


@pytest.fixture(params=["local", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    """An empty run folder on each kind of file system."""
    url = str(tmp_path / "run") if request.param == "local" else f"memory://{uuid.uuid4().hex}/run"
    folder = RunFolder(url)
    folder.prepare()
    return folder


@pytest.fixture
def local(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.prepare()
    return folder


def files_below(folder: Path) -> set[str]:
    """All files, hidden ones too."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def committed(run: RunFolder, shard: int) -> Marker:
    files = [run.write_table("pairs", shard, TABLE), run.write_table("candidates", shard, TABLE)]
    return run.commit("generate", shard, f"print-{shard}", files, {"captions": 3})


def fail_with(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_what_is_written_is_read(run: RunFolder) -> None:
    stored = run.write("deep/er/file.bin", b"\0bytes")
    assert (stored.path, stored.size) == ("deep/er/file.bin", 6)
    assert run.exists("deep/er/file.bin")
    assert run.read("deep/er/file.bin") == b"\0bytes"
    assert run.listing("deep") == {"deep/er/file.bin": 6}
    run.write("deep/er/file.bin", b"new")
    assert run.read("deep/er/file.bin") == b"new"
    run.remove("deep/er/file.bin")
    run.remove("deep/er/file.bin")
    assert not run.exists("deep/er/file.bin")
    assert run.listing("deep") == run.listing("nowhere") == {}


def test_path_is_one_that_other_libraries_open(run: RunFolder) -> None:
    run.write("some file.txt", b"x")
    with fsspec.open(run.path("some file.txt")) as file:
        assert file.read() == b"x"


def test_checksums_tell_contents_apart(run: RunFolder) -> None:
    assert run.write("a", b"1").checksum == run.write("b", b"1").checksum
    assert run.write("a", b"1").checksum != run.write("a", b"2").checksum


def test_reader_sees_the_old_file_or_the_new_one_and_never_half(local: RunFolder) -> None:
    old, new = b"o" * 1_000_000, b"n" * 2_000_000
    local.write("file", old)
    seen = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(local.read("file"))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(10):
        local.write("file", new)
        local.write("file", old)
    stop.set()
    reader.join()
    assert seen <= {old, new}


@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_failed_write_leaves_the_old_file_and_nothing_else(
    local: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    local.write("folder/file", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, at, fail_with(errno.ENOSPC))
        patch.setattr(Path, "replace", lambda self, target: os.replace(self, target))
        with pytest.raises(RunFolderError, match="no space left"):
            local.write("folder/file", b"new")
        with pytest.raises(RunFolderError, match="no space left"):
            local.write("folder/other", b"new")
    assert files_below(tmp_path / "run") == {"folder/file"}
    assert local.read("folder/file") == b"old"


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "no space left on the device; free some and run again"),
        (errno.EDQUOT, "the disk quota is used up; free some and run again"),
        (errno.EFBIG, "the file-size limit is reached; raise it (ulimit -f) and run again"),
        (errno.EACCES, "permission denied; choose a folder that you may write to"),
        (errno.EROFS, "the file system is read-only; choose another folder"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_failed_write_says_what_failed_where_and_what_to_do(
    local: RunFolder, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    monkeypatch.setattr(os, "fsync", fail_with(number))
    with pytest.raises(RunFolderError) as caught:
        local.write("pairs/file", b"x")
    message = str(caught.value)
    assert message.startswith(f"cannot write {local.path('pairs/file')}: ")
    assert advice in message
    assert "\n" not in message


def test_reading_what_is_not_there_is_one_line(run: RunFolder) -> None:
    for read in (run.read, run.read_table):
        with pytest.raises(RunFolderError, match=r"^cannot read .*nothing") as caught:
            read("nothing")
        assert "\n" not in str(caught.value)


def test_drafts_of_a_killed_writer_are_hidden_and_then_removed(
    local: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(local, 0)
    before = files_below(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_with(errno.EIO))
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # as a killed process, which cannot
        for name in ("dataset/images/a.png", "done/generate/00001.json", "recipe.yaml"):
            with pytest.raises(RunFolderError):
                local.write(name, b"half")
    left = files_below(tmp_path / "run") - before
    assert len(left) == 3
    assert local.listing("dataset") == {}
    assert set(local.markers("generate")) == {0}
    local.write("recipe.yaml", b"{}")
    with RunFolder(tmp_path / "run").held():
        pass
    assert files_below(tmp_path / "run") == before | {"recipe.yaml"}


def test_marker_is_what_was_committed(run: RunFolder) -> None:
    marker = committed(run, 7)
    assert run.markers("generate") == {7: marker}
    assert run.markers("curate") == {}
    assert marker.file("pairs") in run.listing("pairs")
    assert marker.file("previews") is None


@pytest.mark.parametrize("content", [b"", b'{"path": ', b"longer" * 1000, None])
def test_marker_is_ignored_when_a_file_it_names_is_missing_or_of_another_size(
    run: RunFolder, content: bytes | None
) -> None:
    damaged, whole = committed(run, 0), committed(run, 1)
    name = damaged.file("candidates")
    assert name is not None
    if content is None:
        run.remove(name)
    else:
        run.write(name, content)
    assert run.markers("generate") == {1: whole}
    assert (run.marker("generate", 0), run.marker("generate", 1)) == (None, whole)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"fingerpr',
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"fingerprint": "x", "files": 3, "facts": {}}',
        b'{"fingerprint": "x", "files": [{"path": 1, "size": 2, "checksum": 3}], "facts": {}}',
        b'{"fingerprint": "x", "files": [{"path": "pairs/x"}], "facts": {}}',
    ],
)
def test_damaged_marker_is_no_marker(run: RunFolder, content: bytes) -> None:
    whole = committed(run, 1)
    run.write("done/generate/00000.json", content)
    run.write("done/generate/notes.json", b"{}")
    assert run.markers("generate") == {1: whole}


def test_files_that_a_marker_names_outside_the_run_do_not_count(
    local: RunFolder, tmp_path: Path
) -> None:
    (tmp_path / "outside").write_bytes(b"12")
    for path in ("../outside", str(tmp_path / "outside"), "pairs/../../outside"):
        entry = {"path": path, "size": 2, "checksum": "x"}
        marker = {"fingerprint": "x", "files": [entry], "facts": {}}
        local.write("done/export/00000.json", json.dumps(marker).encode())
        assert local.markers("export") == {}


def test_sweep_removes_what_no_marker_names_and_nothing_else(run: RunFolder) -> None:
    first, second = committed(run, 0), committed(run, 1)
    run.write_table("pairs", 1, TABLE)
    run.write("pairs/stray.parquet", b"x")
    run.write("other/stray", b"x")
    run.commit("curate", 1, "print")
    run.sweep("generate", ["pairs", "candidates"], {0: first})
    assert set(run.listing("pairs")) == {first.file("pairs")}
    assert set(run.listing("candidates")) == {first.file("candidates")}
    assert run.markers("generate") == {0: first}
    assert set(run.markers("curate")) == {1}
    assert run.exists("other/stray")
    assert second.file("pairs") not in run.listing("pairs")


def test_attempts_at_a_shard_never_share_a_name(run: RunFolder) -> None:
    names = {run.write_table("pairs", 3, TABLE).path for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("pairs/part-00003-") for name in names)


def test_table_is_read_whole_by_columns_and_by_rows(run: RunFolder) -> None:
    name = run.write_table("pairs", 0, TABLE).path
    assert run.read_table(name).equals(TABLE)
    assert run.read_table(name, ["n"]).column_names == ["n"]
    assert list(run.iter_rows(name, "id", {"a", "c"})) == [{"id": "a", "n": 1}, {"id": "c", "n": 3}]


def test_row_groups_stay_small(monkeypatch: pytest.MonkeyPatch, run: RunFolder) -> None:
    import pyarrow.parquet as pq

    monkeypatch.setattr("synthvlm.run_folder.tables.ROW_GROUP_BYTES", 1000)
    table = pa.table({"image": [bytes([n]) * 400 for n in range(10)]})
    file = pq.ParquetFile(pa.BufferReader(table_bytes(table)))
    assert file.num_row_groups == 5
    name = run.write_table("pairs", 0, table).path
    assert [row["image"][0] for row in run.iter_rows(name, "image", {b"\3" * 400})] == [3]
    assert run.row_group_sizes(name) == [2] * 5
    assert run.row_group(name, 3, ["image"]).equals(table.slice(6, 2))


def test_empty_table_is_written_and_read(run: RunFolder) -> None:
    name = run.write_table("pairs", 0, TABLE.slice(0, 0)).path
    assert run.read_table(name).num_rows == 0


def damaged(data: bytes, how: str) -> bytes:
    if how == "pages":  # the header and the footer stay, what lies between is noise
        return data[:4] + bytes(255 - byte for byte in data[4:400]) + data[400:]
    return {"empty": b"", "cut": data[: len(data) // 2], "text": b"not Parquet at all"}[how]


@pytest.mark.parametrize("how", ["empty", "cut", "text", "pages"])
def test_damaged_table_is_one_line_that_says_what_to_do(run: RunFolder, how: str) -> None:
    table = pa.table({"id": [str(n) for n in range(1000)], "n": range(1000)})
    run.write("pairs/part.parquet", damaged(table_bytes(table), how))
    for read in (
        lambda: run.read_table("pairs/part.parquet"),
        lambda: list(run.iter_rows("pairs/part.parquet", "n", {1})),
    ):
        with pytest.raises(RunFolderError) as caught:
            read()
        message = str(caught.value)
        assert message.startswith(f"{run.path('pairs/part.parquet')} is damaged")
        assert message.endswith("delete it and run again")
        assert "\n" not in message


def test_events_are_new_files_and_come_back_in_order(run: RunFolder) -> None:
    run.event("first", note="ünï\ud800")
    run.flush_events()
    run.flush_events()
    run.event("second")
    run.flush_events()
    run.write("events/broken.jsonl", b'{"time": 1e99, "event": "cut o')
    run.write("events/odd.jsonl", b"3\nnull\n[]\n\n{}\n")
    assert [event["event"] for event in run.events()] == ["first", "second"]
    assert len(run.listing("events")) == 4


def test_many_events_are_flushed_on_the_way(run: RunFolder) -> None:
    for number in range(1000):
        run.event("tick", number=number)
    assert run.listing("events")


def test_events_are_flushed_every_few_seconds(tmp_path: Path) -> None:
    time = FakeTime()
    run = RunFolder(tmp_path, clock=time.clock)
    run.event("first")
    time.now += 4.9
    run.event("second")
    assert run.events() == []
    time.now += 0.1
    run.event("third")
    assert [event["event"] for event in run.events()] == ["first", "second", "third"]
    run.event("fourth")
    assert len(run.events()) == 3
    run.flush_events()
    assert len(run.events()) == 4
    assert len(run.listing("events")) == 2


def test_markers_come_in_the_order_of_shards(run: RunFolder) -> None:
    for shard in (100_000, 9, 99_999):
        run.commit("generate", shard, "print")
    assert list(run.markers("generate")) == [9, 99_999, 100_000]


def test_one_marker_is_as_among_all(run: RunFolder) -> None:
    marker, cut_off = committed(run, 3), committed(run, 4)
    run.write(cut_off.files[1].path, b"x")
    run.write("done/generate/00005.json", b"{")
    assert run.marker("generate", 3) == marker
    assert [run.marker("generate", shard) for shard in (4, 5, 6)] == [None] * 3


def test_prepare_accepts_new_empty_and_earlier_folders(run: RunFolder) -> None:
    run.prepare()
    run.write("recipe.yaml", b"{}")
    run.write("pairs/x", b"x")
    run.prepare()
    assert run.read("pairs/x") == b"x"


def test_folder_with_other_peoples_files_is_refused_and_left_alone(run: RunFolder) -> None:
    run.write("thesis.tex", b"x")
    with pytest.raises(RunFolderError, match=r"not a run folder: it contains 'thesis\.tex' but no"):
        run.prepare()
    assert run.read("thesis.tex") == b"x"


def test_hidden_files_do_not_make_a_folder_other_peoples(local: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "run" / ".DS_Store").write_bytes(b"x")
    local.prepare()
    assert (tmp_path / "run" / ".DS_Store").exists()


def test_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(RunFolderError, match=r"file is a file: name a new folder"):
        RunFolder(tmp_path / "file").prepare()
    with pytest.raises(RunFolderError, match="part of the path is a file"):
        RunFolder(tmp_path / "file" / "run").prepare()


def test_file_in_the_way_of_a_stage_is_refused(local: RunFolder) -> None:
    local.write("pairs", b"x")
    with pytest.raises(RunFolderError, match=r"^cannot write .*pairs/part-00000-"):
        local.write_table("pairs", 0, TABLE)


@pytest.mark.parametrize("url", ["nonsense://bucket/run", "nonsense://"])
def test_unknown_protocol_is_refused(url: str) -> None:
    with pytest.raises(RunFolderError, match=f"^run folder {url}: "):
        RunFolder(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("runs/a::b", "'::' chains file systems"),
        ("filecache::s3://bucket/run", "'::' chains file systems"),
        ("simplecache::file:///run", "'::' chains file systems"),
        ("dir://run", "no folder can be written at dir://"),
        ("zip://run", "no folder can be written at zip://"),
        ("https://host/run", "no folder can be written at https://"),
        ("data://run", "no folder can be written at data://"),
        ("github://org:name@main/run", "no folder can be written at github://"),
        ("s3://bucket/a/../run", "name it without '..'"),
        ("s3://", "names no folder"),
        ("s3:/bucket/run", "neither a URL nor clearly a folder"),
        ("file://tmp/run", "neither a URL nor clearly a folder"),
        ("S3://bucket/run", "write s3://bucket/run"),
        ("memory://", "names no folder"),
        ("hdfs://host/run", "run folder hdfs://host/run: "),
    ],
)
def test_what_can_hold_no_folder_is_refused(url: str, reason: str) -> None:
    with pytest.raises(RunFolderError, match=re.escape(reason)) as caught:
        RunFolder(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["{}/", "{}/../run", "file://{}", "{}/./", "~/run", "a b#c?d"])
def test_local_names_are_those_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run = RunFolder(name.format(tmp_path / "run"))
    run.prepare()
    run.write("a/b", b"x")
    expected = "a b#c?d" if name == "a b#c?d" else "run"
    assert (tmp_path / expected / "a" / "b").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [expected]


@pytest.mark.parametrize("is_moved", [True, False])
def test_a_folder_that_goes_while_a_run_works_in_it_is_not_made_again(
    tmp_path: Path, is_moved: bool
) -> None:
    run = RunFolder(tmp_path / "run")
    run.prepare()
    gone = f"{tmp_path / 'run'} is gone: it was removed or renamed"
    with run.held():
        run.commit("generate", 0, "f", [run.write_table("pairs", 0, TABLE)])
        worker = pickle.loads(pickle.dumps(run))
        if is_moved:
            (tmp_path / "run").rename(tmp_path / "other")
        else:
            shutil.rmtree(tmp_path / "run")
        for one in (run, worker):
            for action in (
                lambda one=one: one.write("recipe.yaml", b"x"),
                lambda one=one: one.write_table("candidates", 1, TABLE),
                lambda one=one: one.commit("generate", 1, "f"),
                lambda one=one: one.make_parent(tmp_path / "run" / "dataset" / "a"),
            ):
                with pytest.raises(RunFolderError, match=gone):
                    action()
    assert not (tmp_path / "run").exists()
    RunFolder(tmp_path / "run").prepare()


@pytest.mark.parametrize("url", ["", " "])
def test_folder_without_a_name_is_refused(url: str) -> None:
    with pytest.raises(RunFolderError, match=r"^the name of the run folder is empty"):
        RunFolder(url)


def test_nothing_is_written_before_prepare(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    one, other = RunFolder(tmp_path), RunFolder(tmp_path)
    with one.held(), pytest.raises(RunFolderError, match="another run"), other.held():
        pass
    with other.held():
        pass
