"""What an engine is, the values it exchanges with workers, and the engine of a single process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

__all__ = [
    "Engine",
    "LocalEngine",
    "LostShard",
    "MakeWorker",
    "Reporter",
    "ShardResult",
    "ShardWorker",
    "Update",
    "WorkerChange",
    "gpu_count",
]


@dataclass(frozen=True, slots=True)
class ShardResult:
    """The outcome of a shard.

    Attributes:
        shard: Number of the shard.
        counts: Counts to show to people, e.g. images generated.
        seconds: Time the worker spent on it, without loading models. Its files are written while
            the worker is already busy with the next shard; that time is not included.
        generation_seconds: The part of ``seconds`` in which the generator was busy; it waited for
            the rest.
        worker: Name of the worker that did it; filled in by the engine.
        details: Plain values that the log of the run holds beside the counts.
    """

    shard: int
    counts: Mapping[str, int]
    seconds: float
    generation_seconds: float
    worker: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LostShard:
    """A shard that is set aside because its worker died in every attempt."""

    shard: int
    deaths: int
    problem: str


@dataclass(frozen=True, slots=True)
class WorkerChange:
    """A change in the state of a worker, and the reason if there is one.

    States: ``waits`` (for a free GPU or CPU), ``started``, ``silent`` (it may hang), ``heard`` (it
    reports again) and ``died``.
    """

    worker: str
    state: str
    problem: str | None = None


Update = ShardResult | LostShard | WorkerChange


class Reporter(Protocol):
    """Takes reports from a worker while it works."""

    def advance(self, amount: int) -> None:
        """Count ``amount`` more units of the stage as done."""

    def note(self, line: str) -> None:
        """Show a line to the user."""


class ShardWorker(Protocol):
    """Processes shards, and holds its models until it is closed."""

    def __call__(self, shards: Iterable[int]) -> Iterator[ShardResult]:
        """Process shards as they come, commit each, and yield its result.

        The next shard may be started before the last one is committed; when ``shards`` ends, all
        are committed. May be called again.
        """
        ...

    def close(self) -> None:
        """Release threads and models."""


#: Makes a worker in the place where it will run. It is sent there, so it must be picklable.
MakeWorker = Callable[[Reporter], ShardWorker]


class Engine(Protocol):
    """Runs shards in any order, each until it is committed."""

    @property
    def workers(self) -> int:
        """Current number of workers."""
        ...

    def gpus(self) -> int:
        """Number of GPUs on the machines where the workers run."""
        ...

    def run(
        self, make_worker: MakeWorker, shards: Sequence[int], progress: Reporter
    ) -> Generator[Update]:
        """Yield the result of each shard as it finishes, and changes of workers.

        A caller that stops early must close the generator. Workers then commit the candidates they
        have generated so far, which may take up to a minute and can be interrupted.

        Raises:
            SynthVLMError: A worker raised it; the other workers commit what they have.
            EngineError: Workers keep dying, whatever shard they are given.
        """
        ...


class LocalEngine:
    """Runs shards one after the other in this process.

    Models are loaded once, by the first shard that needs them.
    """

    workers = 1

    def gpus(self) -> int:
        """Number of GPUs of this machine."""
        return gpu_count()

    def run(
        self, make_worker: MakeWorker, shards: Sequence[int], progress: Reporter
    ) -> Generator[ShardResult]:
        """Yield the result of each shard as it finishes; without shards no worker is made."""
        if not shards:
            return
        with closing(make_worker(progress)) as worker:
            for result in worker(shards):
                yield replace(result, worker="0")


def gpu_count() -> int:
    """Number of CUDA GPUs that this process may use."""
    import torch

    return torch.cuda.device_count()
