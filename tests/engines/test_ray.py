"""A real Ray cluster of two nodes, each a raylet of its own, on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from toy_jobs import Told, ToyJob

from fake_models import run_with
from synthvlm.engines import ray_actors
from synthvlm.engines.base import LostShard, ShardResult, Update, WorkerChange
from synthvlm.engines.ray_actors import RayEngine
from synthvlm.engines.ray_connection import connect
from synthvlm.errors import EngineError, ModelError
from synthvlm.recipe import Recipe

ray = pytest.importorskip("ray")


class Nodes:
    """The cluster; nodes join and leave."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.address = str(cluster.address)

    def join(self) -> Any:
        return self._cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)

    def kill(self, node: Any) -> None:
        """SIGKILL for its raylet, which takes its workers with it."""
        node.all_processes["raylet"][0].process.kill()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    from ray.cluster_utils import Cluster

    here = Path(__file__).parent
    before = os.environ.get("PYTHONPATH")
    # Raylets, and so their workers, inherit it.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(here), str(here.parent), before]))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # The head does no work; a node that is killed is missed soon.
    settings = {"health_check_period_ms": 500, "health_check_failure_threshold": 2}
    head = {"num_cpus": 0, "object_store_memory": 80 * 2**20, "_system_config": settings}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "include_dashboard": False})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield Nodes(cluster)
    finally:
        ray.shutdown()
        cluster.shutdown()
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="module")
def two(nodes: Nodes) -> Nodes:
    nodes.join()
    nodes.join()
    return nodes


def of(kind: type, updates: list[Update]) -> list[Any]:
    return [one for one in updates if isinstance(one, kind)]


def committed(folder: Path) -> dict[str, int]:
    return {p.name: len(p.read_text()) for p in folder.iterdir() if p.name.isdecimal()}


def test_every_shard_is_done_once_on_two_nodes(two: Nodes, tmp_path: Path) -> None:
    told = Told()
    updates = list(RayEngine(2).run(ToyJob(tmp_path, pause_s=0.05), range(8), told))
    assert sorted(one.shard for one in of(ShardResult, updates)) == list(range(8))
    assert committed(tmp_path) == {str(n): 1 for n in range(8)}
    assert told.done == 80
    assert {one.worker for one in of(ShardResult, updates)} == {"0", "1"}
    assert len(list(tmp_path.glob("closed-*"))) == 2


def test_a_killed_worker_and_a_deadly_shard(two: Nodes, tmp_path: Path) -> None:
    told = Told()
    updates = list(RayEngine(2).run(ToyJob(tmp_path, once=(1,), deadly=(4,)), range(6), told))
    assert sorted(one.shard for one in of(ShardResult, updates)) == [0, 1, 2, 3, 5]
    (lost,) = of(LostShard, updates)
    assert (lost.shard, lost.deaths) == (4, 3)
    assert "process died" in lost.problem
    assert "\n" not in lost.problem
    assert told.done == 50


def test_an_error_stops_the_run(two: Nodes, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the model is gone"):
        list(RayEngine(2).run(ToyJob(tmp_path, fatal=(0,), pause_s=0.05), range(6), Told()))


def test_a_driver_that_stops_early_lets_workers_give_up(two: Nodes, tmp_path: Path) -> None:
    updates: Any = RayEngine(2).run(ToyJob(tmp_path, pause_s=0.05), range(50), Told())
    busy = set()
    for update in updates:
        busy |= {update.worker} if isinstance(update, ShardResult) else set()
        if len(busy) == 2:
            break
    updates.close()
    # One had just finished and was waiting for the next shard.
    assert len(list(tmp_path.glob("given-up-*"))) in (1, 2)
    assert len(list(tmp_path.glob("closed-*"))) == 2


def test_nodes_leave_and_join(nodes: Nodes, two: Nodes, tmp_path: Path) -> None:
    """A node is killed in the middle, another joins: nothing is lost, no shard is to blame."""
    extra = nodes.join()
    updates: list[Update] = []
    # Two workers alone would soon be done: they wait for the third, later for the fourth.
    job = ToyJob(tmp_path, crowds=((6, 3), (7, 3), (20, 4), (21, 4)), pause_s=0.02)
    # As many actors as nodes have room, and so one on the third.
    for update in RayEngine(3).run(job, range(30), Told()):
        updates.append(update)
        if len({one.worker for one in of(ShardResult, updates)}) == 3 and extra is not None:
            nodes.kill(extra)
            nodes.join()
            extra = None
    assert sorted(one.shard for one in of(ShardResult, updates)) == list(range(30))
    assert set(committed(tmp_path)) == {str(n) for n in range(30)}
    deaths = [one for one in of(WorkerChange, updates) if one.state == "died"]
    assert len(deaths) == 1
    assert len({one.worker for one in of(ShardResult, updates)}) == 4
    assert not of(LostShard, updates)


def test_workers_that_wait_for_room_are_told_of(
    two: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_actors, "_POLL_S", 0.2)
    monkeypatch.setattr(ray_actors, "_START_S", 6.0)
    room = int(ray.cluster_resources()["CPU"])
    holders = [ray.remote(Holder).options(num_cpus=1).remote() for _ in range(room)]
    ray.get([holder.here.remote() for holder in holders])
    told, engine = Told(), RayEngine(2)
    updates: list[Update] = []
    counts: list[int] = []
    # One may be told of a moment before the other.
    waiting = f"2 of 2 workers wait for a CPU of the Ray cluster (0 of {room} free)"
    thread = Thread(target=let_go_when_told, args=(told, waiting, holders))
    thread.start()
    try:
        for update in engine.run(ToyJob(tmp_path, pause_s=0.05), range(4), told):
            updates.append(update)
            counts.append(engine.workers)
    finally:
        thread.join()
    assert len(of(ShardResult, updates)) == 4
    assert waiting in told.lines
    assert told.lines[-1] == "no worker waits for a CPU of the Ray cluster any more"
    changes = [(one.worker, one.state) for one in of(WorkerChange, updates)]
    assert changes[:2] == [("0", "waits"), ("1", "waits")]
    assert sorted(changes[2:]) == [("0", "started"), ("1", "started")]
    assert (counts[0], max(counts)) == (0, 2)


class Holder:
    """Takes a place."""

    def here(self) -> None:
        pass


def let_go_when_told(told: Told, line: str, holders: list[Any]) -> None:
    until = time.monotonic() + 60
    while line not in told.lines and time.monotonic() < until:
        time.sleep(0.1)
    for holder in holders:
        ray.kill(holder)


HANDLER = """
import signal
from synthvlm.engines.ray_actors import RayEngine

signal.signal(signal.SIGTERM, signal.default_int_handler)
RayEngine(1)
print(signal.getsignal(signal.SIGTERM) is signal.default_int_handler)
"""


def test_ray_leaves_sigterm_to_the_command(nodes: Nodes) -> None:
    """It would end the process in the middle, without a word."""
    environment = {**os.environ, "RAY_ADDRESS": nodes.address}
    command = [sys.executable, "-c", HANDLER]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n", done.stderr


OWN = """
import os, sys
from contextlib import suppress
from pathlib import Path

import psutil
from toy_jobs import Told, ToyJob
from synthvlm.engines.ray_actors import RayEngine

engine = RayEngine(1)
job = ToyJob(Path(sys.argv[1]), once=(0,))
shards = [u.shard for u in engine.run(job, range(2), Told()) if hasattr(u, "seconds")]
own = psutil.Process()
listening = set()
for process in [own, *own.children(recursive=True)]:
    with suppress(psutil.Error):  # an idle worker ends at any time
        listening |= {
            connection.laddr.ip.removeprefix("::ffff:")
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        }
print(sorted(shards), sorted(listening), os.environ["RAY_AUTH_MODE"])
"""


def test_a_cluster_of_ours_is_reached_from_this_machine_alone_and_says_nothing(
    nodes: Nodes, tmp_path: Path
) -> None:
    """Without RAY_ADDRESS, no cluster is joined; a worker that is killed leaves no raw lines."""
    environment = {name: value for name, value in os.environ.items() if "RAY_A" not in name}
    command = [sys.executable, "-c", OWN, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[0, 1] ['127.0.0.1'] token\n", "")


def test_an_address_where_nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(EngineError, match=r"no Ray cluster answers at RAY_ADDRESS=127\.0\.0\.1:1"):
        connect(ray)


def test_the_same_run_as_in_one_process(two: Nodes, tmp_path: Path) -> None:
    """The whole pipeline: the data set is the same byte for byte."""
    captions = tmp_path / "captions.txt"
    captions.write_text("".join(f"a small wooden barn number {n} on a hill\n" for n in range(30)))
    settings = ["run.shard_size=4", "run.threads=1", "generation.candidates=2"]
    settings += ["generation.model=org/fake", "scoring.clip.model=org/fake"]
    settings += ["selection.top_fraction=1.0"]
    recipe = Recipe.load("tiny", captions=[captions], overrides=settings)
    for name, engine in (("one", None), ("two", RayEngine(2))):
        out = tmp_path / name
        run_with(recipe, out, until="export", engine=engine)
    files = {
        p.relative_to(tmp_path / "one"): p.read_bytes()
        for p in sorted((tmp_path / "one" / "dataset").rglob("*"))
        if p.is_file()
    }
    assert len(files) > 10
    for name, data in files.items():
        assert (tmp_path / "two" / name).read_bytes() == data, name
    selection = "selection.parquet"
    assert (tmp_path / "two" / selection).read_bytes() == (
        tmp_path / "one" / selection
    ).read_bytes()
