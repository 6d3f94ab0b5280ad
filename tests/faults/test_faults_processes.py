"""SIGKILL of drivers and workers of ``ProcessEngine`` at random moments."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fault_runs import Driver, Lab, Moment, one_line
from processes_of import wait_until_gone, workers

MANY = pytest.param(100, marks=pytest.mark.long)
#: A shard whose workers died three times is set aside, so no run loses more.
KILLS_A_RUN = 2


@pytest.mark.parametrize("kills", [2, MANY])
def test_driver_killed_at_random_moments(lab: Lab, kills: int) -> None:
    """Its folder is free at once, and its workers are soon gone."""
    source = random.Random(kills)
    out = lab.new("driver")
    killed = 0
    orphans: list[int] = []
    while killed < kills:
        driver = lab.start(out)
        if Moment.any(source).comes(driver, out / "done"):
            left = workers(driver.process.pid or 0)
            killed += driver.kill()
            wait_until_gone(orphans, 10)
            orphans = left
        else:
            driver.succeeds()
            lab.assert_undisturbed(out)
            shutil.rmtree(out)
    lab.start(out).succeeds()
    wait_until_gone(orphans, 10)
    lab.assert_undisturbed(out)
    shutil.rmtree(out)


@contextmanager
def stopped(driver: Driver) -> Iterator[None]:
    """It stands still meanwhile, so that it is not over before another run is refused."""
    pid = driver.process.pid
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("kills", [MANY])
def test_worker_killed_at_random_moments(lab: Lab, kills: int) -> None:
    """A second run is refused meanwhile."""
    source = random.Random(kills)
    killed = 0
    while killed < kills:
        out = lab.new("worker")
        driver = lab.start(out)
        for _ in range(min(KILLS_A_RUN, kills - killed)):
            if not Moment.of_generating(source).comes(driver, out / "done" / "generate"):
                break
            with stopped(driver):
                found = workers(driver.process.pid or 0)
                if found:
                    os.kill(source.choice(found), signal.SIGKILL)
                    killed += 1
                    line = one_line(lab.start(out))
                    assert f"(process {driver.process.pid}) is working in {out}" in line
        driver.succeeds()
        lab.assert_undisturbed(out)
        shutil.rmtree(out)
