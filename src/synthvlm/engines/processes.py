"""Shards over several processes of this machine, one for each GPU."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from itertools import count
from multiprocessing.connection import Connection, wait
from threading import Thread

from synthvlm.engines.base import MakeWorker, Reporter, Update, WorkerChange
from synthvlm.engines.channel import Channel, Message
from synthvlm.engines.crew import Crew
from synthvlm.engines.local import gpu_count
from synthvlm.terminal import quiet_libraries

__all__ = ["ProcessEngine"]

#: How long a worker that is to stop may take to commit what it has drawn.
_GRACE_S = 60.0


class ProcessEngine:
    """Runs shards in spawned processes; each holds models of its own, on a GPU of its own."""

    def __init__(self, workers: int) -> None:
        """Take the number of processes; on a machine with GPUs they share these in turn."""
        self._wanted = workers
        self._members: dict[int, _Member] = {}
        self._names = count()

    @property
    def workers(self) -> int:
        """How many processes there are now."""
        return len(self._members)

    def gpus(self) -> int:
        """How many GPUs this machine has."""
        return gpu_count()

    def run(
        self, make_worker: MakeWorker, shards: Sequence[int], progress: Reporter
    ) -> Iterator[Update]:
        """Yield the result of each shard as it finishes, and what becomes of the processes."""
        crew = Crew(shards, progress)
        places = range(min(self._wanted, len(shards)))
        devices = _devices()
        try:
            while not crew.is_over:
                for place in places:
                    if place not in self._members and crew.dispatch.waiting:
                        device = devices[place % len(devices)] if devices else None
                        member = _Member(str(next(self._names)), make_worker, device)
                        self._members[place] = member
                        yield WorkerChange(member.name, "started")
                yield from self._listen(crew, len(places))
        finally:
            members = list(self._members.values())
            self._members.clear()
            _stop(members)

    def _listen(self, crew: Crew, workers: int) -> Iterator[Update]:
        """Wait for messages and deaths, and take what has come."""
        ends = {member.connection: place for place, member in self._members.items()}
        for end in wait(list(ends)):
            assert isinstance(end, Connection)
            place = ends[end]
            member = self._members[place]
            try:
                message: Message = end.recv()
            except (EOFError, OSError):
                message = ("crash", (member.end(), None))
            if message[0] != "crash":
                yield from crew.heard(member, message)
                continue
            del self._members[place]
            member.kill()
            yield from crew.died(member, message[1][0], workers=workers)


class _Member:
    """A process, and the driver's end of its pipe."""

    def __init__(self, name: str, make_worker: MakeWorker, device: str | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self.connection, end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(end, make_worker, device), name=f"worker-{name}", daemon=True
        )
        self._process.start()
        end.close()

    def reply(self, shard: int | None) -> None:
        self._send(("reply", shard))

    def stop(self) -> None:
        self._send(("stop", None))

    def join(self, seconds: float) -> None:
        self._process.join(max(0.0, seconds))

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()

    def end(self) -> str:
        """How the process ended, whose pipe is closed."""
        self._process.join()
        code = self._process.exitcode or 0
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return f"its process was killed by {name}{hint}"
        return f"its process ended with status {code}"

    def _send(self, message: Message) -> None:
        # A worker that is dead is found by its pipe.
        try:
            self.connection.send(message)
        except OSError:
            return


def _stop(members: Sequence[_Member]) -> None:
    """Let workers commit what they have drawn, but not for ever."""
    for member in members:
        member.stop()
    deadline = time.monotonic() + _GRACE_S
    try:
        for member in members:
            member.join(deadline - time.monotonic())
    finally:  # also where the user is impatient
        for member in members:
            member.kill()


def _devices() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    return [str(number) for number in range(gpu_count())]


def _serve(connection: Connection, make_worker: MakeWorker, device: str | None) -> None:
    """The life of a process."""
    # The terminal's Ctrl-C is for the driver, who tells its workers to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    quiet_libraries()
    channel = Channel(connection.send)
    Thread(target=_listen, args=(connection, channel), daemon=True).start()
    channel.serve(make_worker)


def _listen(connection: Connection, channel: Channel) -> None:
    while True:
        try:
            kind, value = connection.recv()
        except (EOFError, OSError):
            # The driver is gone, and with it the lock of the run folder.
            os._exit(1)
        if kind == "stop":
            channel.stop()
        else:
            channel.reply(value)
