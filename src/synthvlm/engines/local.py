"""Shards one after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from synthvlm.engines.base import ShardResult, ShardWorker

__all__ = ["LocalEngine"]


class LocalEngine:
    """Runs shards in this process; models are loaded once, by the first shard that needs them."""

    def run(
        self, make_worker: Callable[[], ShardWorker], shards: Sequence[int]
    ) -> Iterator[ShardResult]:
        """Yield the result of each shard as it finishes."""
        yield from make_worker()(shards)
