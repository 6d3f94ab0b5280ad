"""What the run folder stands on, on file systems that fail."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterator

import botocore.exceptions
import pyarrow as pa
import pytest

from fake_time import FakeTime, FlakyFileSystem
from synthvlm.errors import RunFolderError
from synthvlm.run_folder.folder import RunFolder
from synthvlm.run_folder.storage import Storage

PASSING = [
    TimeoutError(),
    ConnectionResetError("peer"),
    OSError(errno.EBUSY, "Please reduce your request rate."),
    botocore.exceptions.EndpointConnectionError(endpoint_url="http://x"),
    RuntimeError("odd, as other people's code is"),
]
LASTING = [
    PermissionError("Access Denied"),
    IsADirectoryError(errno.EISDIR, "is a directory"),
    ValueError("Invalid endpoint"),
    NotImplementedError("read-only store"),
    botocore.exceptions.NoCredentialsError(),
    botocore.exceptions.PartialCredentialsError(provider="env", cred_var="secret"),
]


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def storage(time: FakeTime) -> Iterator[Storage]:
    FlakyFileSystem.reset()
    yield Storage(f"flaky://{uuid.uuid4().hex}/run", clock=time.clock)
    FlakyFileSystem.reset()


def fail_next(*errors: Exception) -> None:
    FlakyFileSystem.failures[:] = errors


@pytest.mark.parametrize("error", PASSING, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize(
    "action",
    [
        lambda s: s.read("a"),
        lambda s: s.read_if_exists("a"),
        lambda s: s.read_many(["a", "b"]) == {"a": b"1", "b": b"2"} or 1 / 0,
        lambda s: s.write("a", b"new"),
        lambda s: s.remove("a"),
        lambda s: s.listing(""),
        lambda s: s.kind("a"),
        lambda s: s.size("a"),
        lambda s: s.with_file("a", lambda file: file.read()),
    ],
    ids=["read", "small", "many", "write", "remove", "list", "kind", "size", "open"],
)
def test_what_may_pass_is_tried_again(
    storage: Storage, time: FakeTime, action: Callable[[Storage], object], error: Exception
) -> None:
    storage.write("a", b"1")
    storage.write("b", b"2")
    fail_next(error, error)
    action(storage)
    assert not FlakyFileSystem.failures
    assert 1 <= len(time.slept) <= 2


@pytest.mark.parametrize("error", LASTING, ids=lambda e: type(e).__name__)
def test_what_lasts_is_one_line_at_once(storage: Storage, time: FakeTime, error: Exception) -> None:
    for action in (lambda: storage.read("a"), lambda: storage.write("a", b"")):
        fail_next(error)
        with pytest.raises(RunFolderError, match=r"^cannot (read|write) flaky://.*/run/a: .") as e:
            action()
        assert e.value.__cause__ is error
        assert "\n" not in str(e.value)
    assert time.slept == []


def test_pauses_grow_and_are_not_all_the_same_and_end(storage: Storage, time: FakeTime) -> None:
    notes: list[str] = []
    storage.note = notes.append
    fail_next(*[OSError(errno.EIO, "internal\nerror") for _ in range(1000)])
    with pytest.raises(
        RunFolderError, match=r"a: internal \(after \d+ attempts; finished work is kept\)$"
    ):
        storage.write("a", b"x")
    assert 20 < sum(time.slept) <= 120
    assert all(0.125 * 2**n <= s <= 0.25 * 2**n for n, s in enumerate(time.slept[:6]))
    assert max(time.slept) <= 15
    assert len(set(time.slept)) == len(time.slept)
    assert len(notes) == 1
    assert notes[0].endswith("a: internal; retrying for up to 120 s")


def test_a_store_that_is_dead_for_20_seconds_is_survived(storage: Storage, time: FakeTime) -> None:
    death = time.now

    def still_dead() -> None:
        FlakyFileSystem.failures[:] = [ConnectionError()] if time.now < death + 20 else []

    time.on_sleep = still_dead
    still_dead()
    storage.write("a", b"x")
    assert storage.read("a") == b"x"
    assert 20 <= time.now - death < 60


def test_bulk_reads_ask_again_only_for_what_failed(storage: Storage) -> None:
    names = [f"f/{n:03d}" for n in range(300)]
    for name in names:
        storage.write(name, name.encode())
    FlakyFileSystem.calls.clear()
    fail_next(TimeoutError(), TimeoutError(), TimeoutError())
    assert storage.read_many([*names, "f/none"]) == {name: name.encode() for name in names}
    # "f/none" is not found once, and then asked for once more with those that failed.
    assert FlakyFileSystem.calls["cat_file"] == 301 + 3 + 1


def test_a_bulk_read_that_may_not_is_one_line(storage: Storage) -> None:
    storage.write("f/a", b"")
    fail_next(PermissionError("Access Denied"))
    with pytest.raises(RunFolderError, match=r"^cannot read flaky://.*/f: Access Denied$"):
        storage.read_many(["f/a"])


def test_small_reads_know_what_is_not_there_what_is_empty_and_what_is_large(
    storage: Storage,
) -> None:
    assert storage.read_if_exists("none") is None
    storage.write("empty", b"")
    assert storage.read_if_exists("empty") == b""
    large = os.urandom(2**20 + 1)
    storage.write("large", large)
    assert storage.read_if_exists("large") == large


def test_what_others_write_is_seen_although_listings_are_cached(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten = []
    monkeypatch.setattr(
        FlakyFileSystem, "invalidate_cache", lambda self, path=None: forgotten.append(path)
    )
    for action in (
        lambda: storage.listing(""), lambda: storage.kind("a"), lambda: storage.size("a"),
        lambda: storage.read_if_exists("a"), lambda: storage.write("a", b""),
        lambda: storage.read("a"), lambda: storage.with_file("a", lambda file: file.read()),
    ):  # fmt: skip
        forgotten.clear()
        action()
        assert None in forgotten


def test_an_error_of_the_local_disk_is_told_at_once(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, time: FakeTime
) -> None:
    local = Storage(str(tmp_path), clock=time.clock)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunFolderError, match=r"Input/output error$"):
        local.write("a", b"x")
    assert time.slept == []


def test_tables_are_read_whole_although_reads_fail(storage: Storage, time: FakeTime) -> None:
    run = RunFolder(storage.url, clock=time.clock)
    table = pa.table({"id": [str(n) for n in range(100)], "n": range(100)})
    name = run.write_table("pairs", 0, table).path
    fail_next(TimeoutError(), ConnectionError())
    assert run.read_table(name).equals(table)
    rows = run.iter_rows(name, "n", {3, 70})
    fail_next(TimeoutError())
    assert next(rows) == {"id": "3", "n": 3}
    fail_next(ConnectionError())
    assert list(rows) == [{"id": "70", "n": 70}]
    fail_next(ConnectionError())
    assert pa.concat_tables(run.row_groups(name, ["n"])).equals(table.select(["n"]))
