"""SIGKILL of drivers, workers and nodes of a Ray cluster at random moments."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_runs import Driver, Lab, Moment
from ray_cluster import Nodes, ray_cluster

pytest.importorskip("ray")

#: A shard whose workers died three times is set aside, so no run loses more.
WORKERS_A_RUN = 2
#: A shard is not to blame for its node.
NODES_A_RUN = 4


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with ray_cluster(2) as cluster:
        yield cluster


@pytest.mark.long
def test_worker_node_and_driver_killed_in_one_run(lab: Lab, nodes: Nodes) -> None:
    source = random.Random(1)
    for _ in range(10):
        out = lab.new("ray")
        driver = lab.start(out, engine="ray")
        if all_struck(driver, out, nodes, source):
            break
        # It was faster than the faults.
        driver.succeeds()
        lab.assert_undisturbed(out)
    else:
        pytest.fail("no run lasted until the third fault")
    lab.start(out, engine="ray").succeeds()
    lab.assert_undisturbed(out)


def all_struck(driver: Driver, out: Path, nodes: Nodes, source: random.Random) -> bool:
    """Kill a worker, a node and the driver; whether the run was still going each time."""
    generated = out / "done" / "generate"
    if not Moment.of_generating(source).comes(driver, generated) or not (found := nodes.workers()):
        return False
    os.kill(source.choice(found), signal.SIGKILL)
    if not Moment.of_generating(source).comes(driver, generated):
        return False
    nodes.kill(source.choice(nodes.alive))
    in_time = Moment(1, 0.1).comes(driver, generated) and driver.kill()
    nodes.join()
    return in_time


@pytest.mark.long
@pytest.mark.parametrize("kills", [50])
def test_driver_killed_at_random_moments(lab: Lab, nodes: Nodes, kills: int) -> None:
    source = random.Random(kills)
    out = lab.new("ray-driver")
    killed = 0
    while killed < kills:
        driver = lab.start(out, engine="ray")
        if Moment.of_generating(source).comes(driver, out / "done") and driver.kill():
            killed += 1
        else:
            driver.succeeds()
            lab.assert_undisturbed(out)
            shutil.rmtree(out)
    lab.start(out, engine="ray").succeeds()
    lab.assert_undisturbed(out)


def strike_runs(lab: Lab, kills: int, a_run: int, strike: Callable[[], bool]) -> None:
    """Runs that are struck while they draw, ``a_run`` times at most, until so many strikes hit."""
    source = random.Random(kills)
    hits = 0
    while hits < kills:
        out = lab.new("ray")
        driver = lab.start(out, engine="ray")
        for _ in range(min(a_run, kills - hits)):
            if not Moment.of_generating(source).comes(driver, out / "done" / "generate"):
                break
            hits += strike()
        driver.succeeds()
        lab.assert_undisturbed(out)
        shutil.rmtree(out)


@pytest.mark.long
@pytest.mark.parametrize("kills", [50])
def test_worker_killed_at_random_moments(lab: Lab, nodes: Nodes, kills: int) -> None:
    source = random.Random(kills)

    def strike() -> bool:
        found = nodes.workers()
        if found:
            os.kill(source.choice(found), signal.SIGKILL)
        return bool(found)

    strike_runs(lab, kills, WORKERS_A_RUN, strike)


@pytest.mark.long
@pytest.mark.parametrize("kills", [100])
def test_node_killed_at_random_moments(lab: Lab, nodes: Nodes, kills: int) -> None:
    source = random.Random(kills)

    def strike() -> bool:
        nodes.kill(source.choice(nodes.alive))
        nodes.join()
        return True

    strike_runs(lab, kills, NODES_A_RUN, strike)
