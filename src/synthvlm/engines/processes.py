"""The engine of several processes on this machine, one for each GPU."""

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

from synthvlm.engines.base import (
    MakeWorker,
    Reporter,
    ShardWorker,
    Update,
    WorkerChange,
    gpu_count,
)
from synthvlm.engines.channel import Channel, Message
from synthvlm.engines.worker_pool import WorkerPool
from synthvlm.errors import EngineError, first_line
from synthvlm.progress.terminal import quiet_libraries

__all__ = ["ProcessEngine"]

#: Seconds that a worker may take, when it has to stop, to commit what it has generated.
_GRACE_S = 60.0
#: Seconds between looks at silent workers.
_POLL_S = 5.0
#: A terminal (Ctrl-C) or a batch system sends these to all processes of a command at once.
_INTERRUPTS = {signal.SIGINT, signal.SIGTERM}
#: Names of worker processes begin like this.
_NAME = "synthvlm-worker-"
#: Exit status of a worker that has started to run the driver's script.
_RUNS_THE_SCRIPT = 119


class ProcessEngine:
    """Runs shards in spawned processes; each has its own models on its own GPU."""

    def __init__(self, workers: int) -> None:
        """Use this many processes; they are spread evenly over the GPUs, if there are any."""
        # A spawned process imports the script that started it. Without a guard, that script gets
        # here again, and would start workers of its own without end.
        if multiprocessing.current_process().name.startswith(_NAME):
            raise SystemExit(_RUNS_THE_SCRIPT)
        self._max_workers = workers
        self._workers: dict[int, _WorkerProcess] = {}
        self._names = count()

    @property
    def workers(self) -> int:
        """Current number of processes."""
        return len(self._workers)

    def gpus(self) -> int:
        """Number of GPUs of this machine."""
        return gpu_count()

    def run(
        self, make_worker: MakeWorker, shards: Sequence[int], progress: Reporter
    ) -> Generator[Update]:
        """Yield the result of each shard as it finishes, and changes of the processes."""
        pool = WorkerPool(shards, progress)
        slots = range(min(self._max_workers, len(shards)))
        devices = _devices()
        try:
            while not pool.is_done:
                for slot in slots:
                    if slot not in self._workers and pool.queue.waiting:
                        device = devices[slot % len(devices)] if devices else None
                        worker = _WorkerProcess(str(next(self._names)), device)
                        self._workers[slot] = worker
                        worker.send_job(make_worker)
                        yield WorkerChange(worker.name, "started")
                yield from self._handle_messages(pool, len(slots))
                yield from pool.report_silent()
        finally:
            workers = list(self._workers.values())
            self._workers.clear()
            _stop(workers)

    def _handle_messages(self, pool: WorkerPool, workers: int) -> Iterator[Update]:
        """Wait for messages and deaths, and handle those that have arrived."""
        slots = {worker.connection: slot for slot, worker in self._workers.items()}
        for connection in wait(list(slots), _POLL_S):
            assert isinstance(connection, Connection)
            slot = slots[connection]
            worker = self._workers[slot]
            try:
                message: Message | None = connection.recv()
            except (EOFError, OSError):
                message = None
            if message is not None and message[0] != "crash":
                yield from pool.receive(worker, message)
                continue
            problem = worker.exit_reason() if message is None else message[1]
            del self._workers[slot]
            worker.kill()
            yield from pool.worker_died(worker, problem, workers=workers)


class _WorkerProcess:
    """A process, and the driver's end of its pipe."""

    def __init__(self, name: str, device: str | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.name, self._had_a_shard = name, False
        self.connection, worker_end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(worker_end, device), name=f"{_NAME}{name}", daemon=True
        )
        with _interrupts_blocked():
            self._process.start()
        worker_end.close()

    def send_job(self, make_worker: MakeWorker) -> None:
        """Send what makes the worker.

        It is not an argument of the process: ``start`` would block for ever if the process died
        before it had read all of it.
        """
        try:
            self._send(make_worker)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise EngineError(
                f"the work cannot be sent to other processes: {first_line(error)}; "
                f"register only classes of importable modules (or use --plugin), or use one worker"
            ) from error

    def reply(self, shard: int | None) -> None:
        self._had_a_shard = self._had_a_shard or shard is not None
        self._send(("reply", shard))

    def stop(self) -> None:
        """Ask it to stop. A worker that never had a shard has nothing to commit and is killed."""
        if self._had_a_shard:
            self._send(("stop", None))
        else:
            self._process.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()

    def exit_reason(self) -> str:
        """How the process ended, after its pipe was closed.

        Raises:
            EngineError: It ran the driver's script, as all other workers would.
        """
        self._process.join()
        code = self._process.exitcode or 0
        if code == _RUNS_THE_SCRIPT:
            raise EngineError(
                "worker processes start by importing the script that started them: put its code "
                'under `if __name__ == "__main__":`'
            )
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return f"its process was killed by {name}{hint}"
        return f"its process ended with status {code}"

    def _send(self, message: Message | MakeWorker) -> None:
        # The death of a worker is noticed at the next read from its pipe.
        try:
            self.connection.send(message)
        except OSError:
            return


def _stop(workers: Sequence[_WorkerProcess]) -> None:
    """Let workers commit what they have generated, and kill those that take too long."""
    deadline = time.monotonic() + _GRACE_S
    try:
        for worker in workers:
            worker.stop()
        open_ends = [worker.connection for worker in workers]
        while open_ends and (ready := wait(open_ends, max(0.0, deadline - time.monotonic()))):
            for end in ready:
                assert isinstance(end, Connection)
                try:
                    end.recv()  # a worker whose pipe is full could not stop
                except (EOFError, OSError):
                    open_ends.remove(end)
    finally:  # also after a second Ctrl-C
        for worker in workers:
            worker.kill()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block interrupts while a process is started, which inherits that; they are then delivered."""
    # The resource tracker of multiprocessing is another process. It must not inherit the blocked
    # signals, and starting it resets the mask of this process, so it is started before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _devices() -> list[str]:
    """The GPUs that this process may use, named as in CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        # CUDA ignores all names after an invalid one such as -1.
        return [name.strip() for name in visible.split(",")][: gpu_count()]
    return [str(number) for number in range(gpu_count())]


def _serve(connection: Connection, device: str | None) -> None:
    """Main function of a worker process."""
    # Interrupts are for the driver, which asks its workers to stop. They were blocked until here.
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
        make: MakeWorker = pickle.loads(data)  # may import what is missing here
        Thread(target=_receive, args=(connection, channel), daemon=True).start()
        return make(progress)

    channel.serve(make_worker)


def _receive(connection: Connection, channel: Channel) -> None:
    while True:
        try:
            kind, value = connection.recv()
        except (EOFError, OSError):
            # The driver is gone, and its lock of the run folder with it: nothing may be committed.
            os._exit(1)
        if kind == "stop":
            channel.stop()
        else:
            channel.reply(value)
