"""Time that passes only where something sleeps, and a file system that fails when it is told to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from synthvlm.run_folder.storage import Clock

__all__ = ["FakeTime", "FlakyFileSystem"]


class FakeTime:
    """A clock whose sleepers wake at once, and which tells how long they believe to have slept."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.on_sleep: Callable[[], object] = lambda: None
        self.clock = Clock(lambda: self.now, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self.on_sleep()


class FlakyFileSystem(MemoryFileSystem):
    """As an object store: shared by all, and its requests may fail."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    #: What the next requests raise.
    failures: ClassVar[list[Exception]] = []
    calls: ClassVar[Counter[str]] = Counter()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("flaky://")))

    @classmethod
    def reset(cls) -> None:
        cls.store.clear()
        cls.pseudo_dirs[:] = [""]
        cls.failures.clear()
        cls.calls.clear()


def _flaky(name: str) -> Callable[..., Any]:
    def request(self: FlakyFileSystem, *args: Any, **options: Any) -> Any:
        FlakyFileSystem.calls[name] += 1
        if FlakyFileSystem.failures:
            raise FlakyFileSystem.failures.pop(0)
        return getattr(super(FlakyFileSystem, self), name)(*args, **options)

    return request


for _name in ("cat_file", "pipe_file", "rm_file", "find", "info", "_open"):
    setattr(FlakyFileSystem, _name, _flaky(_name))
fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
