"""Whole runs on an S3-compatible store that fails, is away, and whose driver is killed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from fault_runs import Driver, Lab

from object_store import ObjectStore, object_store
from synthvlm.run_folder.folder import RunFolder

#: One request in so many fails.
FAILING = 10


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    with object_store() as served:
        yield served


def wait_for(driver: Driver, seen: Callable[[], int], wanted: int) -> None:
    """Wait until so many requests have come."""
    while seen() < wanted:
        driver.process.join(0.01)
        assert driver.process.exitcode is None, driver.errors


def start(lab: Lab, url: str, workers: int) -> Driver:
    return lab.start(url, workers=workers, before=retry_soon)


def retry_soon() -> None:
    import synthvlm.run_folder.lock
    import synthvlm.run_folder.storage

    synthvlm.run_folder.lock.SETTLE_S = 0.2
    synthvlm.run_folder.storage._FIRST_PAUSE_S = 0.05


def assert_undisturbed(lab: Lab, url: str) -> None:
    """As on a local folder, to which it is copied."""
    import fsspec

    fs, root = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    out = lab.new("copy")
    for path in fs.find(root):
        target = out / path.removeprefix(root).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(fs.cat_file(path))
    lab.assert_undisturbed(out)


@pytest.mark.long
def test_one_request_in_ten_fails_and_the_store_goes_away(
    tiny_lab: Lab, store: ObjectStore
) -> None:
    survive(tiny_lab, store, 1, 2.5)


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_one_request_in_ten_fails_and_the_store_is_away_for_20_seconds(
    small_lab: Lab, store: ObjectStore, workers: int
) -> None:
    for _ in range(3):
        survive(small_lab, store, workers, 20)


def survive(lab: Lab, store: ObjectStore, workers: int, away_s: float) -> None:
    url = store.url()
    store.fail_every, before = FAILING, store.failures
    driver = start(lab, url, workers)
    markers = store.count("PUT", "/done/generate/")
    wait_for(driver, lambda: store.count("PUT", "/done/generate/"), markers + 1)
    store.dead_for(away_s)
    driver.succeeds()
    store.fail_every = None
    assert store.failures - before > 10
    assert_undisturbed(lab, url)
    driver = start(lab, url, workers)  # there is nothing left to do
    commits = store.count("PUT", "/done/")
    driver.succeeds()
    assert store.count("PUT", "/done/") == commits


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_driver_killed_at_random_requests(small_lab: Lab, store: ObjectStore, workers: int) -> None:
    kill_drivers(small_lab, store, workers, 20)


def kill_drivers(lab: Lab, store: ObjectStore, workers: int, kills: int) -> None:
    source = random.Random(kills)
    store.fail_every = FAILING
    url = store.url()
    killed = 0
    while killed < kills:
        driver = start(lab, url, workers)
        wanted = len(store.requests) + source.randint(1, 150)
        while len(store.requests) < wanted and driver.process.exitcode is None:
            driver.process.join(0.01)
        if driver.kill():
            killed += 1
            continue
        driver.succeeds()
        assert_undisturbed(lab, url)
        url = store.url()
    start(lab, url, workers).succeeds()
    store.fail_every = None
    assert_undisturbed(lab, url)
    assert RunFolder(url).lock_info() is None
