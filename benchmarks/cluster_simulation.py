"""On paper: many GPUs, from the times of real shards, with stragglers and failures.

    python benchmarks/cluster_simulation.py RUN [--gpus 64] [--captions 1000000] ...

RUN is a run folder whose events say how long its shards took; their spread is kept, and their mean
is set by --seconds-per-caption. Workers get their shards from the package's own queue
(``ShardQueue``): two at a time; those of a dead worker are done again at the end, each alone.
Nothing here was measured on that many GPUs.
"""

from __future__ import annotations

import argparse
import heapq
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from synthvlm.engines.worker_pool import ShardQueue
from synthvlm.run_folder.folder import RunFolder

SIZES = (100, 300, 1000, 3000, 10_000)


@dataclass(frozen=True)
class Cluster:
    """What is assumed of the machines."""

    gpus: int
    loading_s: float
    hours_between_failures: float
    restart_s: float
    stragglers: float
    slower: float


@dataclass(frozen=True)
class Outcome:
    """What came of it: hours, share of GPU time that made images that were kept, workers lost."""

    hours: float
    efficiency: float
    deaths: int
    set_aside: int


@dataclass
class _Worker:
    name: str
    speed: float
    dies_at: float
    shards: list[int] = field(default_factory=list)


def simulate(shards: np.ndarray, cluster: Cluster, random: np.random.Generator) -> Outcome:
    """Let a cluster do shards that take so many seconds each."""
    shard_queue = ShardQueue(range(len(shards)))
    queue: list[tuple[float, int, str, _Worker]] = []
    names = iter(range(1 << 30))
    idle: list[_Worker] = []
    deaths = lost = 0
    now = 0.0

    def start_worker(at: float) -> None:
        slow = random.random() < cluster.stragglers
        until = random.exponential(cluster.hours_between_failures * 3600)
        worker = _Worker(str(next(names)), cluster.slower if slow else 1.0, at + until)
        begin(worker, at + cluster.loading_s)

    def begin(worker: _Worker, at: float) -> None:
        shard = shard_queue.take(worker.name)
        if shard is None:
            idle.append(worker)
            return
        worker.shards.append(shard)
        end = at + shards[shard] * worker.speed
        kind = "generated" if end < worker.dies_at else "dies"
        heapq.heappush(queue, (min(end, worker.dies_at), next(names), kind, worker))

    for _ in range(cluster.gpus):
        start_worker(0.0)
    while queue:
        now, _, kind, worker = heapq.heappop(queue)
        if kind == "generated":
            # Its files are written while the next one is generated: it is done when that begins.
            for shard in worker.shards:
                shard_queue.finish(worker.name, shard)
            worker.shards.clear()
            begin(worker, now)
        else:
            deaths += 1
            lost += len(shard_queue.worker_died(worker.name, "failure", workers=cluster.gpus))
            start_worker(now + cluster.restart_s)
        for waiting in idle[:]:
            if shard_queue.waiting:
                idle.remove(waiting)
                begin(waiting, now)
    useful = float(shards.sum()) / (cluster.gpus * now)
    return Outcome(now / 3600, useful, deaths, lost)


def measured_spread(url: str) -> npt.NDArray[np.float64]:
    """How long the shards of a run took, divided by their mean."""
    seconds = [
        event["seconds"] / event["generated"]
        for event in RunFolder(url).events()
        if event["event"] == "shard" and event["stage"] == "generate" and event["generated"]
    ]
    if len(seconds) < 2:
        raise SystemExit(f"{url}: the log holds fewer than two shards")
    spread: npt.NDArray[np.float64] = np.array(seconds) / np.mean(seconds)
    return spread


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--captions", type=int, default=1_000_000)
    parser.add_argument("--seconds-per-caption", type=float, default=4.0)
    parser.add_argument("--loading", type=float, default=90.0, help="Seconds to load the models.")
    parser.add_argument("--hours-between-failures", type=float, default=100.0, help="Of a worker.")
    parser.add_argument("--restart", type=float, default=60.0, help="Seconds until it is replaced.")
    parser.add_argument("--stragglers", type=float, default=0.05, help="Share of slow workers.")
    parser.add_argument("--slower", type=float, default=2.0, help="Times that they take.")
    return parser


def main(argv: list[str] | None = None) -> None:
    arguments = make_parser().parse_args(argv)
    spread = measured_spread(arguments.run)
    print(
        f"spread of {len(spread)} measured shards: {spread.min():.2f} to {spread.max():.2f} times "
        f"their mean; means of 20 simulations\n"
    )
    calm = Cluster(arguments.gpus, arguments.loading, 1e9, arguments.restart, 0.0, 1.0)
    real = Cluster(
        arguments.gpus,
        arguments.loading,
        arguments.hours_between_failures,
        arguments.restart,
        arguments.stragglers,
        arguments.slower,
    )
    print("| captions per shard | hours, calm | efficiency | hours | efficiency | workers lost |")
    print("|---|---|---|---|---|---|")
    for size in SIZES:
        simulated = []
        for seed in range(20):
            random = np.random.default_rng(seed)
            count = -(-arguments.captions // size)
            shards = random.choice(spread, count) * size * arguments.seconds_per_caption
            simulated.append([simulate(shards, cluster, random) for cluster in (calm, real)])
        columns = [
            np.mean([getattr(pair[n], name) for pair in simulated])
            for n, name in ((0, "hours"), (0, "efficiency"), (1, "hours"), (1, "efficiency"))
        ]
        deaths = np.mean([pair[1].deaths for pair in simulated])
        print(
            f"| {size:,} | {columns[0]:.1f} | {columns[1]:.1%} | {columns[2]:.1f} | "
            f"{columns[3]:.1%} | {deaths:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
