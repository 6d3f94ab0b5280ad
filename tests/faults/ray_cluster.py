"""A Ray cluster of several nodes on this machine, each a raylet of its own, that can be killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from processes_of import ray_workers

__all__ = ["Nodes", "ray_cluster"]

STORE_BYTES = 80 * 2**20


class Nodes:
    """Its nodes with room for one worker each; they join and leave."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.alive: list[Any] = []
        self._dead: list[Any] = []
        self.address = str(cluster.address)

    def join(self) -> None:
        """Start another node; what is left of killed ones goes first."""
        while self._dead:
            self._cluster.remove_node(self._dead.pop(), allow_graceful=False)
        self.alive.append(self._cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES))

    def kill(self, node: Any) -> None:
        """SIGKILL for its raylet, which takes its workers with it. Returns at once."""
        self.alive.remove(node)
        self._dead.append(node)
        node.all_processes["raylet"][0].process.kill()

    def workers(self) -> list[int]:
        """The processes of the engine's actors on all nodes."""
        raylets = [node.all_processes["raylet"][0].process.pid for node in self.alive]
        return [pid for raylet in raylets for pid in ray_workers(raylet)]


@contextmanager
def ray_cluster(nodes: int) -> Iterator[Nodes]:
    """A cluster whose head does no work; nothing of it is known to this process's own Ray."""
    from ray.cluster_utils import Cluster

    here = Path(__file__).parent
    changed = {
        # Raylets, and so their workers, inherit it.
        "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    before = {name: os.environ.get(name) for name in (*changed, "RAY_ADDRESS")}
    os.environ |= changed
    # A node that is killed is missed soon.
    settings = {"health_check_period_ms": 500, "health_check_failure_threshold": 2}
    head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "_system_config": settings}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "include_dashboard": False})
    try:
        started = Nodes(cluster)
        for _ in range(nodes):
            started.join()
        os.environ["RAY_ADDRESS"] = started.address
        yield started
    finally:
        cluster.shutdown()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
