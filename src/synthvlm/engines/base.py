"""What an engine is, and what crosses it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "Engine",
    "LostShard",
    "MakeWorker",
    "Reporter",
    "ShardResult",
    "ShardWorker",
    "Update",
    "WorkerChange",
]


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What became of a shard.

    Attributes:
        shard: Its number.
        counts: For people, e.g. images generated.
        seconds: The worker's turn at it, without the loading of models; its files are written
            while the next shard has its turn.
        generation_seconds: Of these, how long the generator was at work; the rest it waited.
        worker: Name of the worker that did it; engines fill it in.
    """

    shard: int
    counts: Mapping[str, int]
    seconds: float
    generation_seconds: float
    worker: str = ""


@dataclass(frozen=True, slots=True)
class LostShard:
    """A shard that is set aside, for its worker died each time that it was tried."""

    shard: int
    deaths: int
    problem: str


@dataclass(frozen=True, slots=True)
class WorkerChange:
    """What became of a worker, and why.

    It ``waits`` for room, has ``started``, is ``silent`` (it may hang), is ``heard`` of again, or
    has ``died``.
    """

    worker: str
    state: str
    problem: str | None = None


Update = ShardResult | LostShard | WorkerChange


class Reporter(Protocol):
    """What a worker tells while it works."""

    def advance(self, amount: int) -> None:
        """That many more units of the stage are done."""

    def note(self, line: str) -> None:
        """Something that people should read."""


class ShardWorker(Protocol):
    """Does shards, and holds its models until it is closed."""

    def __call__(self, shards: Iterable[int]) -> Iterator[ShardResult]:
        """Do shards as they are given, commit each, and say what became of it.

        A shard may be begun before the last is committed; when no more are given, all are. May
        be called again.
        """
        ...

    def close(self) -> None:
        """Let go of threads and models."""


#: Makes a worker, where it will work: it is sent there, and so must be picklable.
MakeWorker = Callable[[Reporter], ShardWorker]


class Engine(Protocol):
    """Runs shards, in any order, each to its commit."""

    @property
    def workers(self) -> int:
        """How many workers there are now."""
        ...

    def gpus(self) -> int:
        """How many GPUs there are where its workers run."""
        ...

    def run(
        self, make_worker: MakeWorker, shards: Sequence[int], progress: Reporter
    ) -> Generator[Update]:
        """Yield the result of each shard as it finishes, and what becomes of workers.

        Who stops early closes it: workers then commit what they have drawn, which may take a
        while and be interrupted.

        Raises:
            SynthVLMError: A worker raised it; the others commit what they have drawn.
            EngineError: Workers die whatever they are given.
        """
        ...
