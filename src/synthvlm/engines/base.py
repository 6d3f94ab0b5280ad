"""What an engine is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Engine", "ShardResult", "ShardWorker"]


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What became of a shard: counts for people (e.g. images generated) and its wall time."""

    shard: int
    counts: Mapping[str, int]
    seconds: float


#: Does a shard, commits it, and says what it did. It may hold models between shards.
ShardWorker = Callable[[int], ShardResult]


class Engine(Protocol):
    """Runs shards, in any order, each to its commit."""

    def run(
        self, make_worker: Callable[[], ShardWorker], shards: Sequence[int]
    ) -> Iterator[ShardResult]:
        """Yield the result of each shard as it finishes."""
        ...
