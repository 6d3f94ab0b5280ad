"""The run folder on an S3-compatible store: what it asks for, and what it survives."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from test_lock import HOLD

from fake_models import load_fake_models
from fake_time import FakeTime
from object_store import ObjectStore, object_store
from synthvlm.errors import RunFolderError
from synthvlm.pipeline import Pipeline
from synthvlm.publishing.folder import FolderTarget
from synthvlm.recipe import Recipe
from synthvlm.run_folder.folder import RunFolder
from synthvlm.run_folder.lock import LOCK_FILE

TABLE = pa.table({"id": ["a", "b"], "n": [1, 2]})


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    monkeypatch.setattr("synthvlm.run_folder.lock.SETTLE_S", 0.05)
    monkeypatch.setattr("synthvlm.run_folder.storage._FIRST_PAUSE_S", 0.02)
    with object_store() as served:
        yield served


def commit(run: RunFolder, shards: range) -> None:
    for shard in shards:
        files = [run.write_table("pairs", shard, TABLE), run.write_table("previews", shard, TABLE)]
        run.commit("generate", shard, f"print-{shard}", files, {"captions": shard})


def test_markers_are_one_listing_and_one_read_each_and_read_once(store: ObjectStore) -> None:
    run = RunFolder(store.url())
    commit(run, range(5))

    def requests(reader: RunFolder, wanted: int) -> int:
        store.requests.clear()
        assert set(reader.markers("generate")) == set(range(wanted))
        return len(store.requests)

    listings = 3  # done/generate, pairs, previews
    assert requests(run, 5) == listings + 5
    assert requests(run, 5) == listings
    commit(run, range(5, 25))
    run.commit("generate", 3, "another", run.markers("generate")[3].files)
    assert requests(run, 25) == listings + 1, "only the marker that changed was to be read"
    assert run.markers("generate")[3].fingerprint == "another"
    assert requests(RunFolder(run.url), 25) == listings + 25


def test_one_marker_is_read_without_a_listing(store: ObjectStore) -> None:
    run = RunFolder(store.url())
    commit(run, range(3))
    marker = run.markers("generate")[1]
    store.requests.clear()
    assert run.marker("generate", 1) == marker
    assert store.count("GET") == 1
    assert store.count("HEAD") == 2
    assert len(store.requests) == 3
    assert run.marker("generate", 7) is None
    run.write(marker.files[0].path, b"cut off")
    assert run.marker("generate", 1) is None
    run.remove(marker.files[0].path)
    assert run.marker("generate", 1) is None


def test_what_another_process_writes_is_seen(store: ObjectStore) -> None:
    import s3fs

    run = RunFolder(store.url())
    commit(run, range(2))
    run.write("recipe.yaml", b"{}")
    run.markers("generate")
    run.prepare()
    other = s3fs.S3FileSystem(skip_instance_cache=True)
    path = run.path("").rstrip("/")
    other.pipe_file(
        f"{path}/done/generate/00002.json", b'{"fingerprint":"x","files":[],"facts":{}}'
    )
    other.pipe_file(f"{path}/pairs/new", b"12345")
    assert set(run.markers("generate")) == {0, 1, 2}
    assert run.exists("pairs/new")
    assert run.listing("pairs")["pairs/new"] == 5
    other.rm_file(f"{path}/pairs/new")
    assert not run.exists("pairs/new")
    assert run.read("done/generate/00002.json").startswith(b"{")
    sync_close(other)


def sync_close(fs: Any) -> None:
    from fsspec.asyn import sync

    sync(fs.loop, fs._s3.__aexit__, None, None, None)
    fs._s3 = None


def test_one_request_in_ten_fails_and_nothing_is_lost_or_doubled(store: ObjectStore) -> None:
    store.fail_every = 10
    run = RunFolder(store.url())
    run.prepare()
    shards = 20
    with run.held():
        for shard in range(shards):
            commit(run, range(shard, shard + 1))
            run.event("shard", shard=shard)
            run.flush_events()
        run.write("pairs/stray", b"x")
        run.remove("pairs/stray")
        markers = run.markers("generate")
        run.sweep("generate", ["pairs", "previews"], markers)
        assert set(RunFolder(run.url).markers("generate")) == set(markers) == set(range(shards))
        assert run.listing("pairs").keys() == {m.file("pairs") for m in markers.values()}
        assert [event["shard"] for event in run.events()] == list(range(shards))
        for marker in markers.values():
            name = marker.file("pairs")
            assert name is not None
            assert run.read_table(name).equals(TABLE)
            assert list(run.iter_rows(name, "n", {2})) == [{"id": "b", "n": 2}]
    assert run.lock_info() is None
    assert store.failures > 10


def test_a_dead_store_is_waited_for(store: ObjectStore) -> None:
    run = RunFolder(store.url())
    commit(run, range(3))
    store.dead_for(1.5)
    run.write("while dead", b"x")
    assert store.failures > 1
    store.dead_for(0.5)
    assert set(RunFolder(run.url).markers("generate")) == {0, 1, 2}
    assert run.read("while dead") == b"x"


def test_a_bucket_that_is_not_there_and_no_key_are_one_line(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        RunFolderError, match=r"^cannot write s3://no-such-bucket/run/a: "
    ) as caught:
        RunFolder("s3://no-such-bucket/run").write("a", b"x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("refusal", "remedy"),
    [
        ((400, "InvalidToken", None), "AWS_SESSION_TOKEN"),
        ((400, "ExpiredToken", None), "AWS_SESSION_TOKEN"),
        ((403, "InvalidAccessKeyId", None), "AWS_ACCESS_KEY_ID"),
        ((403, "SignatureDoesNotMatch", None), "AWS_SECRET_ACCESS_KEY"),
        ((403, "AccessDenied", None), "use credentials that may list, read and write there"),
        ((401, "Unauthorized", None), "renew the credentials"),
        ((301, "PermanentRedirect", None), "AWS_DEFAULT_REGION"),
        ((301, "PermanentRedirect", "eu-west-1"), "AWS_DEFAULT_REGION"),
        ((400, "AuthorizationHeaderMalformed", None), "AWS_DEFAULT_REGION"),
        ((405, "MethodNotAllowed", None), ""),
    ],
)
def test_an_answer_that_lasts_is_one_line_with_the_remedy_at_once(
    store: ObjectStore, refusal: tuple[int, str, str | None], remedy: str
) -> None:
    clock = FakeTime()
    run = RunFolder(store.url(), clock=clock.clock)
    store.refusal = refusal
    for action in (
        run.prepare,
        lambda: run.write("a", b"x"),
        lambda: run.listing("pairs"),
        lambda: run.read("a"),
        lambda: run.lock_info(),
    ):
        with pytest.raises(RunFolderError, match=r"^cannot (open|read|write|list) s3://") as caught:
            action()
        assert remedy in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "recursion" not in str(caught.value)
    assert not clock.slept


@pytest.mark.parametrize("refusal", [(409, "OperationAborted"), (400, "RequestTimeout")])
def test_an_answer_that_may_pass_is_waited_for(
    store: ObjectStore, refusal: tuple[int, str]
) -> None:
    clock = FakeTime()
    run = RunFolder(store.url(), clock=clock.clock)
    store.refusal = (*refusal, None)

    def recover() -> None:
        store.refusal = None

    clock.on_sleep = recover
    run.write("a", b"x")
    assert clock.slept
    assert run.read("a") == b"x"


def test_a_bucket_is_never_created(store: ObjectStore, tmp_path: Path) -> None:
    import s3fs

    line = r"^s3://typo/runs/1: there is no bucket 'typo', and buckets are never created"
    with pytest.raises(RunFolderError, match=line):
        RunFolder("s3://typo/runs/1").prepare()
    for write in (True, False):
        with pytest.raises(RunFolderError, match="there is no bucket 'typo'"):
            FolderTarget("s3://typo/set").open("set", write=write)
    recipe = Recipe.load("tiny", limit=2)
    with pytest.raises(RunFolderError, match="there is no bucket 'typo'"):
        Pipeline(recipe, "s3://typo/run").run()
    assert not store.count("PUT")
    assert s3fs.S3FileSystem().ls("") == ["runs"]


def test_a_folder_that_is_removed_while_a_run_works_in_it_is_not_written_to(
    store: ObjectStore,
) -> None:
    import s3fs

    clock = FakeTime()
    run = RunFolder(store.url(), clock=clock.clock)
    run.prepare()
    with run.held():
        run.commit("generate", 0, "f", [run.write_table("pairs", 0, TABLE)])
        s3fs.S3FileSystem().rm(run.url, recursive=True)
        clock.now += 2
        with pytest.raises(RunFolderError, match="is gone: this run is over"):
            run.write_table("candidates", 1, TABLE)
    assert not run.listing("")
    RunFolder(run.url).prepare()


def hold(url: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import synthvlm.run_folder.lock; synthvlm.run_folder.lock.SETTLE_S = 0.05\n" + HOLD,
            url,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_lock_is_taken_refused_and_taken_over(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = store.url()
    monkeypatch.setattr("synthvlm.run_folder.lock.PERIOD_S", 0.3)
    told: list[str] = []
    with hold(url) as process:
        try:
            run = RunFolder(url)
            info = run.lock_info()
            assert info is not None
            assert info["pid"] == process.pid
            monkeypatch.setattr("synthvlm.run_folder.lock.STALE_BEATS", 100)  # it beats every 10 s
            beat = json.dumps({**info, "beat": info["beat"] + 1}).encode()
            soon = threading.Timer(0.1, run.write, (LOCK_FILE, beat))
            soon.start()
            held = pytest.raises(RunFolderError, match=f"process {process.pid}")
            with held, run.held(note=told.append):
                raise AssertionError
            soon.join()
            assert told
            told.clear()
        finally:
            process.kill()
    with run.held(note=told.append):  # its process is dead, and was one of this machine
        run.commit("generate", 0, "f")
    assert not told
    monkeypatch.setattr("synthvlm.run_folder.lock.STALE_BEATS", 3)
    run.write(LOCK_FILE, json.dumps({**info, "machine": "another"}).encode())
    with run.held(note=told.append):
        run.commit("generate", 1, "f")
    assert len(told) == 1
    assert run.lock_info() is None


def test_a_whole_run_is_the_same_as_on_a_local_folder(store: ObjectStore, tmp_path: Path) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("".join(f"a small circle above {n} large squares\n" for n in range(16)))
    settings = ["generation.candidates=2", "run.shard_size=6", "run.threads=1"]
    recipe = Recipe.load("tiny", captions=[captions], overrides=settings)
    local = Pipeline(recipe, tmp_path / "run")
    remote = Pipeline(recipe, store.url())
    local._load_models = remote._load_models = load_fake_models
    local.run("export")
    store.fail_every = 20
    remote.run("select")
    store.fail_every = None
    remote.run("export")
    for stage, folder in (
        ("curate", "captions"),
        ("generate", "candidates"),
        ("generate", "pairs"),
    ):
        assert rows(remote.folder, stage, folder) == rows(local.folder, stage, folder) != []
    images = {name for name in local.folder.listing("dataset") if name.endswith(".png")}
    assert len(images) > 3
    assert remote.folder.listing("dataset").keys() == local.folder.listing("dataset").keys()
    assert all(remote.folder.read(name) == local.folder.read(name) for name in images)
    before = remote.folder.markers("generate")
    again = Pipeline(recipe, remote.folder.url).run("export")
    assert all(summary.reused == summary.shards for summary in again.summaries)
    assert remote.folder.markers("generate") == before


def rows(run: RunFolder, stage: str, folder: str) -> list[dict[str, Any]]:
    names = [marker.file(folder) for _, marker in sorted(run.markers(stage).items())]
    return [row for name in names if name for row in run.read_table(name).to_pylist()]
