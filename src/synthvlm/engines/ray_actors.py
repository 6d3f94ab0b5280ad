"""The engine of actors on a Ray cluster."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from itertools import count
from threading import Condition, Thread
from typing import Any

from synthvlm.engines.base import MakeWorker, Reporter, Update, WorkerChange
from synthvlm.engines.channel import Channel, Message
from synthvlm.engines.ray_connection import connect, import_ray
from synthvlm.engines.worker_pool import WorkerPool
from synthvlm.progress.terminal import quiet_libraries

__all__ = ["RayEngine"]

#: Seconds that a worker may take, when it has to stop, to commit what it has generated.
_GRACE_S = 60.0
#: Seconds between looks at how many workers the cluster has capacity for.
_POLL_S = 5.0
#: An actor that is not running after this many seconds waits for capacity; until then it may be
#: starting.
_START_S = 15.0
#: Seconds after which an actor answers the driver even if it has no message.
_REPLY_S = 2.0


class RayEngine:
    """Runs shards in Ray actors, each of which holds its models until there are no more shards.

    Nodes may join and leave during a run: the shards of a lost actor go to other actors, and new
    capacity gets a new actor.
    """

    def __init__(self, workers: int | None = None) -> None:
        """Connect to the cluster at ``RAY_ADDRESS``, or start one for this machine alone.

        ``RAY_ADDRESS=auto`` means the cluster that already runs on this machine. The one that is
        started is reached over loopback alone, with a token that only its processes know.

        Args:
            workers: Maximum number of actors; by default one per GPU of the cluster, or one per
                node if it has no GPUs.

        Raises:
            MissingExtraError: Ray is not installed.
            EngineError: The cluster cannot be reached, or one cannot be kept to this machine.
        """
        ray = import_ray()
        self._ray, self._max_workers = ray, workers
        self._workers: dict[str, _WorkerActor] = {}
        self._names = count()
        self._warning: str | None = None
        if not ray.is_initialized():
            self._warning = connect(ray)

    @property
    def workers(self) -> int:
        """Current number of running actors, without those that wait for capacity."""
        return sum(worker.node is not None for worker in self._workers.values())

    def gpus(self) -> int:
        """Number of GPUs of the cluster."""
        return int(self._ray.cluster_resources().get("GPU", 0))

    def run(
        self, make_worker: MakeWorker, shards: Sequence[int], progress: Reporter
    ) -> Generator[Update]:
        """Yield the result of each shard as it finishes, and changes of the actors."""
        if self._warning is not None:
            progress.note(self._warning)
        pool = WorkerPool(shards, progress)
        job = self._ray.put(make_worker)
        looked, known, waiting = time.monotonic(), -1, 0
        try:
            while not pool.is_done:
                if len(self._workers) != known or time.monotonic() - looked >= _POLL_S:
                    looked = time.monotonic()
                    self._start_workers(job, pool)
                    known = len(self._workers)
                    waiting = yield from self._report_waiting(waiting, progress)
                yield from self._handle_messages(pool)
                yield from pool.report_silent()
        finally:
            workers = list(self._workers.values())
            self._workers.clear()
            self._stop(workers)

    def _capacity(self) -> int:
        """How many actors there should be."""
        if self._max_workers is not None:
            return self._max_workers
        return self.gpus() or sum(node["Alive"] for node in self._ray.nodes())

    def _start_workers(self, job: Any, pool: WorkerPool) -> None:
        """Start actors, as many as there are capacity and shards for."""
        resource = "num_gpus" if self.gpus() else "num_cpus"
        count = min(self._capacity() - len(self._workers), pool.queue.waiting)
        for _ in range(count):
            worker = _WorkerActor(str(next(self._names)), self._ray, job, resource)
            self._workers[worker.name] = worker

    def _report_waiting(self, reported: int, progress: Reporter) -> Generator[Update, None, int]:
        """Report how many actors wait for capacity, if that number has changed."""
        waiting = 0
        for worker in self._workers.values():
            if worker.is_waiting():
                waiting += 1
                if not worker.is_reported:
                    worker.is_reported = True
                    yield WorkerChange(worker.name, "waits")
        if waiting != reported:
            kind = "GPU" if self.gpus() else "CPU"
            free = self._ray.available_resources().get(kind, 0)
            total = self._ray.cluster_resources().get(kind, 0)
            progress.note(
                f"{waiting} of {len(self._workers)} workers wait for a {kind} of the Ray cluster "
                f"({free:g} of {total:g} free)"
                if waiting
                else f"no worker waits for a {kind} of the Ray cluster any more"
            )
        return waiting

    def _handle_messages(self, pool: WorkerPool) -> Iterator[Update]:
        """Wait for messages and deaths, and handle those that have arrived."""
        workers = {worker.messages: worker for worker in self._workers.values()}
        if not workers:
            time.sleep(_POLL_S / 10)
            return
        ready, _ = self._ray.wait(list(workers), timeout=_POLL_S)
        for reference in ready:
            worker = workers[reference]
            try:
                messages: list[Message] = self._ray.get(reference)
            except self._ray.exceptions.ActorUnavailableError:
                worker.retry()  # perhaps the network; if the actor is dead, the retry will say so
                continue
            except self._ray.exceptions.RayError as error:
                messages = [("crash", _reason(error))]
            if not worker.has_started and worker.is_running():
                worker.has_started = True
                yield WorkerChange(worker.name, "started")
            worker.received += len(messages)
            for message in messages:
                if message[0] == "crash":
                    yield from self._remove(pool, worker, message[1])
                    break
                yield from pool.receive(worker, message)
            else:
                worker.request_messages()

    def _remove(self, pool: WorkerPool, worker: _WorkerActor, problem: str) -> Iterator[Update]:
        """Remove a dead actor. If its whole node is gone, its shards cannot be the cause."""
        del self._workers[worker.name]
        alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        lost_node = worker.node is not None and worker.node not in alive
        worker.kill()
        workers = max(1, self._capacity())
        yield from pool.worker_died(worker, problem, workers=workers, blame=not lost_node)

    def _stop(self, workers: Sequence[_WorkerActor]) -> None:
        """Let workers commit what they have generated, and kill those that take too long."""
        try:
            # An actor that still waits for capacity has nothing to commit.
            stopped = [worker.stop() for worker in workers if worker.is_running()]
            if stopped:
                self._ray.wait(stopped, num_returns=len(stopped), timeout=_GRACE_S)
        finally:
            for worker in workers:
                worker.kill()


class _WorkerActor:
    """An actor as the driver sees it, and the calls to it that are pending.

    A call, or its result, may be lost on the way. So the actor keeps its messages until the driver
    has confirmed them, and replies are numbered: a reply that arrives twice counts once.
    """

    def __init__(self, name: str, ray: Any, job: Any, resource: str) -> None:
        self.name, self._ray = name, ray
        actor = ray.remote(_Actor).options(
            max_restarts=0, max_concurrency=4, scheduling_strategy="SPREAD", **{resource: 1}
        )
        self._actor = actor.remote(job, os.getcwd())
        self.node: str | None = None
        self.is_reported = self.has_started = False
        self._created = time.monotonic()
        self.received = 0
        self._replies = 0
        self._last_reply: int | None = None
        self._node_call = self._actor.node.remote()
        self.request_messages()

    def request_messages(self) -> None:
        """Ask for the next messages, and confirm those that were received."""
        self.is_running()
        self.messages = self._actor.messages_after.remote(self.received)

    def retry(self) -> None:
        """Repeat the calls that may have been lost."""
        if self._replies:
            self._actor.reply.remote(self._replies, self._last_reply)
        if self.node is None:
            self._node_call = self._actor.node.remote()
        self.request_messages()

    def is_running(self) -> bool:
        """Whether it runs; if so, ``node`` says on which node."""
        if self.node is None and self._ray.wait([self._node_call], timeout=0)[0]:
            with suppress(self._ray.exceptions.RayError):
                self.node = self._ray.get(self._node_call)
        return self.node is not None

    def is_waiting(self) -> bool:
        """Whether it is not running, and for too long to be merely starting."""
        return not self.is_running() and time.monotonic() - self._created >= _START_S

    def reply(self, shard: int | None) -> None:
        self._replies, self._last_reply = self._replies + 1, shard
        self._actor.reply.remote(self._replies, shard)

    def stop(self) -> Any:
        """Ask it to stop; the reference that is returned is ready when it has."""
        return self._actor.stop.remote()

    def kill(self) -> None:
        with suppress(Exception):  # it may be dead already
            self._ray.kill(self._actor)


class _Actor:
    """Runs in the cluster: serves a worker on one thread, and the driver on others."""

    def __init__(self, make_worker: MakeWorker, folder: str) -> None:
        # Relative paths mean the same as for the driver, if its folder exists here.
        with suppress(OSError):
            os.chdir(folder)
        quiet_libraries()
        self._changed = Condition()
        self._unconfirmed: list[Message] = []
        self._confirmed = self._replies = 0
        self._channel = Channel(self._send)
        self._thread = Thread(target=self._channel.serve, args=(make_worker,), daemon=True)
        self._thread.start()

    def node(self) -> str:
        """Id of the node that this runs on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def messages_after(self, received: int) -> list[Message]:
        """The worker's messages after the first ``received`` ones, which the driver has."""
        with self._changed:
            if received > self._confirmed:
                del self._unconfirmed[: received - self._confirmed]
                self._confirmed = received
            self._changed.wait_for(lambda: self._unconfirmed, _REPLY_S)
            return list(self._unconfirmed)

    def reply(self, number: int, shard: int | None) -> None:
        """Answer the worker, once."""
        with self._changed:
            is_new, self._replies = number > self._replies, max(number, self._replies)
        if is_new:
            self._channel.reply(shard)

    def stop(self) -> None:
        """Stop the worker, and wait until it has stopped."""
        self._channel.stop()
        self._thread.join()

    def _send(self, message: Message) -> None:
        with self._changed:
            self._unconfirmed.append(message)
            self._changed.notify_all()


def _reason(error: Exception) -> str:
    """The cause of an actor's death in one line, without Ray's advice."""
    text = " ".join(str(error).split())
    detail = re.search(r"Worker exit detail: (.*?)(?: Some common causes|$)", text)
    if detail is not None:
        return f"its process died: {detail[1]}"
    if "raised in its creation task" in text:  # on its node something is missing, a plug-in say
        last = str(error).strip().splitlines()[-1]
        return f"it cannot be made there: {re.sub(r'^synthvlm[.]errors[.][A-Za-z]+: ', '', last)}"
    return text[text.find("The actor ") :][:300] if "The actor " in text else text[:300]
