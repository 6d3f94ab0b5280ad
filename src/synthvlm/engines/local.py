"""Shards one after the other, in this process."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace

from synthvlm.engines.base import MakeWorker, Reporter, ShardResult

__all__ = ["LocalEngine", "gpu_count"]


class LocalEngine:
    """Runs shards in this process; models are loaded once, by the first shard that needs them."""

    workers = 1

    def gpus(self) -> int:
        """How many GPUs this machine has."""
        return gpu_count()

    def run(
        self, make_worker: MakeWorker, shards: Sequence[int], progress: Reporter
    ) -> Generator[ShardResult]:
        """Yield the result of each shard as it finishes."""
        with closing(make_worker(progress)) as worker:
            for result in worker(shards):
                yield replace(result, worker="0")


def gpu_count() -> int:
    """How many GPUs this machine has."""
    import torch

    return torch.cuda.device_count()
