"""What an engine is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Engine", "ShardResult", "ShardWorker"]


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What became of a shard.

    Attributes:
        shard: Its number.
        counts: For people, e.g. images generated.
        seconds: The worker's turn at it, without the loading of models; its files are written
            while the next shard has its turn.
        drawing_s: Of these, how long the generator was at work; the rest it waited.
    """

    shard: int
    counts: Mapping[str, int]
    seconds: float
    drawing_s: float


#: Does shards as it is given them, commits each, and says what became of it. It may hold models
#: between shards, and begin one before the last is committed.
ShardWorker = Callable[[Iterable[int]], Iterator[ShardResult]]


class Engine(Protocol):
    """Runs shards, in any order, each to its commit."""

    def run(
        self, make_worker: Callable[[], ShardWorker], shards: Sequence[int]
    ) -> Iterator[ShardResult]:
        """Yield the result of each shard as it finishes."""
        ...
