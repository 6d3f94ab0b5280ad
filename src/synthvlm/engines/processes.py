"""Shards over several processes of this machine, one for each GPU."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from threading import Thread

from synthvlm.engines.base import MakeWorker, Reporter, ShardWorker, Update, WorkerChange
from synthvlm.engines.channel import Channel, Message
from synthvlm.engines.local import gpu_count
from synthvlm.engines.worker_pool import Crew
from synthvlm.errors import EngineError, first_line
from synthvlm.progress.terminal import quiet_libraries

__all__ = ["ProcessEngine"]

#: How long a worker that is to stop may take to commit what it has drawn.
_GRACE_S = 60.0
#: How often workers that say nothing are looked at.
_LOOK_S = 5.0
#: What a terminal and a batch system send to all processes of a command.
_INTERRUPTS = {signal.SIGINT, signal.SIGTERM}
#: What worker processes are called.
_NAME = "synthvlm-worker-"
#: Exit status of one that has begun to run the driver's script.
_RUNS_THE_SCRIPT = 119


class ProcessEngine:
    """Runs shards in spawned processes; each holds models of its own, on a GPU of its own."""

    def __init__(self, workers: int) -> None:
        """Take the number of processes; on a machine with GPUs they share these in turn."""
        if multiprocessing.current_process().name.startswith(_NAME):
            raise SystemExit(_RUNS_THE_SCRIPT)
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
    ) -> Generator[Update]:
        """Yield the result of each shard as it finishes, and what becomes of the processes."""
        crew = Crew(shards, progress)
        places = range(min(self._wanted, len(shards)))
        devices = _devices()
        try:
            while not crew.is_over:
                for place in places:
                    if place not in self._members and crew.dispatch.waiting:
                        device = devices[place % len(devices)] if devices else None
                        member = _Member(str(next(self._names)), device)
                        self._members[place] = member
                        member.give(make_worker)
                        yield WorkerChange(member.name, "started")
                yield from self._listen(crew, len(places))
                yield from crew.silent()
        finally:
            members = list(self._members.values())
            self._members.clear()
            _stop(members)

    def _listen(self, crew: Crew, workers: int) -> Iterator[Update]:
        """Wait for messages and deaths, and take what has come."""
        ends = {member.connection: place for place, member in self._members.items()}
        for end in wait(list(ends), _LOOK_S):
            assert isinstance(end, Connection)
            place = ends[end]
            member = self._members[place]
            try:
                message: Message | None = end.recv()
            except (EOFError, OSError):
                message = None
            if message is not None and message[0] != "crash":
                yield from crew.heard(member, message)
                continue
            problem = member.end() if message is None else message[1]
            del self._members[place]
            member.kill()
            yield from crew.died(member, problem, workers=workers)


class _Member:
    """A process, and the driver's end of its pipe."""

    def __init__(self, name: str, device: str | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.name, self._has_begun = name, False
        self.connection, end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(end, device), name=f"{_NAME}{name}", daemon=True
        )
        with _interrupts_held():
            self._process.start()
        end.close()

    def give(self, make_worker: MakeWorker) -> None:
        """Send what makes the worker; not with the process, where a death would block for ever."""
        try:
            self._send(make_worker)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise EngineError(
                f"the work cannot be sent to other processes: {first_line(error)}; give "
                f"load_models a function of a module, or have one worker"
            ) from error

    def reply(self, shard: int | None) -> None:
        self._has_begun = self._has_begun or shard is not None
        self._send(("reply", shard))

    def stop(self) -> None:
        """Ask it to stop; one that never had a shard has nothing to commit."""
        if self._has_begun:
            self._send(("stop", None))
        else:
            self._process.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()

    def end(self) -> str:
        """How the process ended, whose pipe is closed.

        Raises:
            EngineError: It ran the driver's script, as all others would.
        """
        self._process.join()
        code = self._process.exitcode or 0
        if code == _RUNS_THE_SCRIPT:
            raise EngineError(
                "worker processes begin by importing the script that starts them: put what it does "
                'under `if __name__ == "__main__":`'
            )
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return f"its process was killed by {name}{hint}"
        return f"its process ended with status {code}"

    def _send(self, message: Message | MakeWorker) -> None:
        # A worker that is dead is found by its pipe.
        try:
            self.connection.send(message)
        except OSError:
            return


def _stop(members: Sequence[_Member]) -> None:
    """Let workers commit what they have drawn, but not for ever."""
    deadline = time.monotonic() + _GRACE_S
    try:
        for member in members:
            member.stop()
        ends = [member.connection for member in members]
        while ends and (ready := wait(ends, max(0.0, deadline - time.monotonic()))):
            for end in ready:
                assert isinstance(end, Connection)
                try:
                    end.recv()  # who speaks to a full pipe cannot stop
                except (EOFError, OSError):
                    ends.remove(end)
    finally:  # also where the user is impatient
        for member in members:
            member.kill()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Keep interrupts from processes that are started meanwhile; this one gets them afterwards."""
    # Its own process is not to inherit it, and on its start it would end it here.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _devices() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        # Names after one that is none, such as -1, do not count.
        return [name.strip() for name in visible.split(",")][: gpu_count()]
    return [str(number) for number in range(gpu_count())]


def _serve(connection: Connection, device: str | None) -> None:
    """The life of a process."""
    # They are for the driver, who tells its workers to stop. They were held back.
    for interrupt in _INTERRUPTS:
        signal.signal(interrupt, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    quiet_libraries()
    channel = Channel(connection.send)

    def make_worker(progress: Reporter) -> ShardWorker:
        try:
            data = connection.recv_bytes()
        except (EOFError, OSError):
            os._exit(1)  # the driver is gone
        make: MakeWorker = pickle.loads(data)  # what it imports may be missing here
        Thread(target=_listen, args=(connection, channel), daemon=True).start()
        return make(progress)

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
