"""Who may work in a run folder: on one machine, on several, after kills, whatever clocks say."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fake_time import FakeTime, FlakyFileSystem
from synthvlm.errors import RunFolderError
from synthvlm.run_folder.folder import RunFolder
from synthvlm.run_folder.lock import LOCK_FILE, machine_key

HOLD = """
import sys, time
from synthvlm.run_folder.folder import RunFolder
run = RunFolder(sys.argv[1])
run.prepare()
with run.held(lambda: {"stage": "generate"}):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def url() -> Iterator[str]:
    """A folder that other machines see."""
    FlakyFileSystem.reset()
    yield f"flaky://{uuid.uuid4().hex}/run"
    FlakyFileSystem.reset()


@pytest.fixture
def run(url: str, time: FakeTime) -> RunFolder:
    return RunFolder(url, clock=time.clock)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def lock(run: RunFolder, beat: float = 1.0, **more: Any) -> None:
    """The lock of another machine."""
    content = {"owner": "other", "host": "node-7", "machine": "node-7 x", "pid": 4711, **more}
    run.write(LOCK_FILE, json.dumps({**content, "beat": beat}).encode())


def owner(run: RunFolder) -> object:
    return (run.lock_info() or {}).get("owner")


def test_the_lock_tells_who_holds_the_folder_and_goes_with_it(run: RunFolder) -> None:
    assert run.lock_info() is None
    with run.held(lambda: {"stage": "curate", "done": 3}):
        found = run.lock_info()
        assert found is not None
        assert found["pid"] == os.getpid()
        assert found["machine"] == machine_key()
        assert found["machine"].startswith(found["host"])
        assert found["state"] == {"stage": "curate", "done": 3}
        assert found["beat"] >= found["since"]
    assert run.lock_info() is None
    with pytest.raises(ZeroDivisionError), run.held():
        1 / 0  # noqa: B018
    assert run.lock_info() is None


def test_of_two_that_find_no_lock_the_last_to_write_has_it(run: RunFolder, time: FakeTime) -> None:
    time.on_sleep = lambda: lock(run)
    with (
        pytest.raises(RunFolderError, match=r"^another run on node-7 \(process 4711\)"),
        run.held(),
    ):
        raise AssertionError
    assert owner(run) == "other"


def test_a_lock_of_a_dead_process_of_this_machine_is_taken_at_once(
    run: RunFolder, time: FakeTime
) -> None:
    lock(run, machine=machine_key(), pid=dead_pid())
    notes: list[str] = []
    with run.held(note=notes.append):
        assert owner(run) != "other"
    assert (notes, len(time.slept)) == ([], 1)  # only so that two of these do not take it both


@pytest.mark.parametrize(
    "whose",
    [
        {"pid": 1},
        {"machine": machine_key(), "pid": os.getpid()},
        {"machine": None, "pid": None, "host": None},
    ],
    ids=["another machine", "this machine, alive", "unknown"],
)
def test_a_silent_lock_is_watched_for_three_heartbeats_and_then_taken(
    run: RunFolder, time: FakeTime, whose: dict[str, Any]
) -> None:
    lock(run, **whose)
    notes: list[str] = []
    with run.held(note=notes.append):
        assert owner(run) != "other"
    host = "another machine" if "host" in whose else "node-7"
    assert notes == [f"waiting 30 s to see whether {host} still works in {run.url}"]
    assert 30 <= sum(time.slept) < 36


@pytest.mark.parametrize("beats_after_s", [1, 10, 29])
def test_a_lock_that_beats_is_respected(
    run: RunFolder, time: FakeTime, beats_after_s: float
) -> None:
    lock(run)
    began = time.now
    time.on_sleep = lambda: time.now < began + beats_after_s or lock(run, beat=2.0)
    with (
        pytest.raises(
            RunFolderError,
            match=rf"^another run on node-7 \(process 4711\) is working in {run.url}: "
            "wait until it has finished, or use another folder$",
        ),
        run.held(),
    ):
        raise AssertionError
    assert owner(run) == "other"


def test_a_store_that_is_away_does_not_make_a_lock_stale(run: RunFolder, time: FakeTime) -> None:
    lock(run)
    began, away = time.now, iter([True])

    def pass_time() -> None:
        if time.now >= began + 26 and next(away, False):  # then one look takes 11 to 23 s
            FlakyFileSystem.failures[:] = [ConnectionError()] * 7
        if time.now > began + 60:
            lock(run, beat=2.0)

    time.on_sleep = pass_time
    with pytest.raises(RunFolderError, match="another run on node-7"), run.held():
        raise AssertionError
    assert time.now > began + 60


def test_a_lock_that_goes_while_it_is_watched_is_free(run: RunFolder, time: FakeTime) -> None:
    lock(run)
    began = time.now
    time.on_sleep = lambda: time.now < began + 5 or owner(run) != "other" or run.remove(LOCK_FILE)
    with run.held():
        assert sum(time.slept) < 30


def test_a_lock_that_another_takes_while_it_is_watched_is_refused(
    run: RunFolder, time: FakeTime
) -> None:
    lock(run)
    time.on_sleep = lambda: lock(run, owner="third", host="node-8")
    with pytest.raises(RunFolderError, match="another run on node-8"), run.held():
        raise AssertionError


def jumping() -> Callable[[], float]:
    """A time of day that is set back by hours, and forth by years, at each look."""
    times = [1.7e9, 1.6e9, 1.6e9 + 1, 2.5e9, 1.1e9]
    return lambda: times.append(times.pop(0)) or times[-1]  # type: ignore[func-returns-value]


def test_a_jumping_clock_neither_kills_nor_saves_an_owner(
    url: str, time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synthvlm.run_folder.lock.time.time", jumping())
    mine, other = RunFolder(url), RunFolder(url, clock=time.clock)
    monkeypatch.setattr("synthvlm.run_folder.lock.SETTLE_S", 0.0)
    beats = []
    seen = threading.Event()

    def state() -> dict[str, Any]:
        beats.append((mine.lock_info() or {}).get("beat"))
        if len(beats) > 8:
            seen.set()
        return {}

    with mine.held(state, period_s=0.005):
        assert seen.wait(30)
        time.on_sleep = lambda: wait_for_a_beat(mine)
        with pytest.raises(RunFolderError, match="another run on"), other.held():
            raise AssertionError
    told = [beat for beat in beats if beat is not None]
    assert told == sorted(set(told)), "a beat that watchers cannot tell from the one before"
    lock(other)
    time.on_sleep = lambda: None
    with other.held():
        assert owner(other) != "other"


def wait_for_a_beat(run: RunFolder) -> None:
    before = (run.lock_info() or {}).get("beat")
    pause = threading.Event()
    for _ in range(3000):
        if (run.lock_info() or {}).get("beat") != before:
            return
        pause.wait(0.01)
    raise AssertionError("no heartbeat")


def test_the_heart_survives_a_store_that_fails_and_a_state_that_cannot_be_told(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synthvlm.run_folder.lock.SETTLE_S", 0.0)
    run = RunFolder(url)

    def state() -> dict[str, Any]:
        raise RuntimeError("dictionary changed size during iteration")

    with run.held(state, period_s=0.005):
        FlakyFileSystem.failures[:] = [ConnectionError()] * 5
        wait_for_a_beat(run)
        assert "changed size" in str((run.lock_info() or {})["state"])


def test_a_run_that_was_taken_over_commits_and_sweeps_nothing(
    run: RunFolder, time: FakeTime
) -> None:
    with run.held():
        kept = run.commit("generate", 0, "f")
        stray = run.write("pairs/stray", b"x")
        time.now += 2
        lock(RunFolder(run.url))
        for action in (
            lambda: run.commit("generate", 1, "f"),
            lambda: run.write_table("pairs", 1, pa.table({"n": [1]})),
            lambda: run.sweep("generate", ["pairs"], {}),
        ):
            with pytest.raises(RunFolderError, match=r"another run on node-7 .* took over"):
                action()
    assert owner(run) == "other", "the lock of another run was removed"
    assert RunFolder(run.url).markers("generate") == {0: kept}
    assert run.exists(stray.path)
    run.commit("generate", 1, "f")  # it belongs to no run any more


def test_the_heart_tells_that_the_lock_is_lost(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthvlm.run_folder.lock.SETTLE_S", 0.0)
    run, notes, lost = RunFolder(url), [], threading.Event()

    def note(line: str) -> None:
        notes.append(line)
        lost.set()

    with run.held(note=note, period_s=0.005):
        lock(run)
        while not lost.wait(0.05):  # a beat may just have been on its way
            lock(run)
    assert notes == [f"another run on node-7 (process 4711) took over {url}"]
    assert owner(run) == "other"


def test_a_worker_commits_as_long_as_its_run_holds_the_folder(
    run: RunFolder, time: FakeTime
) -> None:
    with run.held():
        worker = pickle.loads(pickle.dumps(run))
        worker.commit("generate", 0, "f")
    orphan = pickle.loads(pickle.dumps(run))
    for kind, left in ((worker, None), (worker, "other")):
        if left:
            lock(run)
        kind._lock._checked = float("-inf")
        with pytest.raises(RunFolderError, match=r"is gone|took"):
            kind.commit("generate", 1, "f")
    orphan.commit("generate", 2, "f")
    assert set(run.markers("generate")) == {0, 2}


def test_what_is_known_of_the_lock_is_good_for_a_second(run: RunFolder, time: FakeTime) -> None:
    with run.held():
        run.commit("generate", 0, "f")
        FlakyFileSystem.calls.clear()
        run.commit("generate", 1, "f")
        assert FlakyFileSystem.calls["cat_file"] == 0
        time.now += 1.5
        run.commit("generate", 2, "f")
        assert FlakyFileSystem.calls["cat_file"] == 1


def test_a_local_folder_is_sent_by_its_full_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = RunFolder("runs/first")
    here.write("a", b"x")
    sent = pickle.dumps(here)
    monkeypatch.chdir("/")
    there = pickle.loads(sent)
    assert there.read("a") == b"x"
    assert there.url == str(tmp_path / "runs" / "first")


def test_a_local_folder_is_refused_at_once_and_free_after_a_kill(
    tmp_path: Path, time: FakeTime
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            run = RunFolder(tmp_path, clock=time.clock)
            held = rf"^another run on .* \(process {process.pid}\) is working in"
            with pytest.raises(RunFolderError, match=held), run.held():
                raise AssertionError
        finally:
            process.kill()
    left = run.lock_info()
    assert left is not None
    assert (left["pid"], left["state"]) == (process.pid, {"stage": "generate"})
    with run.held():
        assert (run.lock_info() or {})["pid"] == os.getpid()
    assert time.slept == []
    assert not (tmp_path / LOCK_FILE).exists()


def test_a_local_folder_is_free_when_the_system_says_so_whoever_has_the_number_now(
    tmp_path: Path, time: FakeTime
) -> None:
    run = RunFolder(tmp_path, clock=time.clock)
    lock(run, machine=machine_key(), pid=os.getpid())
    with run.held():
        assert owner(run) != "other"
    assert time.slept == []


def test_a_local_folder_that_another_machine_holds_is_watched(
    tmp_path: Path, time: FakeTime
) -> None:
    run = RunFolder(tmp_path, clock=time.clock)
    lock(run)
    with run.held():
        assert owner(run) != "other"
    assert sum(time.slept) >= 30


def test_a_file_system_that_cannot_lock_does_with_the_file(
    tmp_path: Path, time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    one, other = RunFolder(tmp_path, clock=time.clock), RunFolder(tmp_path, clock=time.clock)
    with one.held():
        time.on_sleep = lambda: lock(one, beat=2.0)
        with pytest.raises(RunFolderError, match="another run on"), other.held():
            raise AssertionError


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_one_line_and_stays_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    run = RunFolder(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        cannot = pytest.raises(RunFolderError, match=r"^cannot write .*\.lock\.json: ")
        with cannot as caught, run.held():
            raise AssertionError
        assert "\n" not in str(caught.value)
    with run.held():
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"owner": 3}', b"\xff"])
def test_a_damaged_lock_is_no_one_elses(run: RunFolder, content: bytes) -> None:
    run.write(LOCK_FILE, content)
    with run.held():
        assert (run.lock_info() or {})["pid"] == os.getpid()
