"""Shards over the actors of a Ray cluster."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from itertools import count
from threading import Condition, Thread
from typing import Any

from synthvlm.engines.base import MakeWorker, Reporter, Update, WorkerChange
from synthvlm.engines.channel import Channel, Message
from synthvlm.engines.crew import Crew
from synthvlm.errors import EngineError, MissingExtraError, first_line
from synthvlm.progress.terminal import quiet_libraries

__all__ = ["RayEngine"]

#: How long a worker that is to stop may take to commit what it has drawn.
_GRACE_S = 60.0
#: How often the cluster is asked whether there is room for more workers.
_LOOK_S = 5.0
#: A worker that is not there after so long waits for room; before that it may be starting.
_START_S = 15.0
#: A worker that has nothing to say answers after so long.
_PATIENCE_S = 2.0


class RayEngine:
    """Runs shards in Ray actors, each of which holds its models until there are no more shards.

    Nodes may join and leave while it runs: a lost actor's shards go to others, and new room gets
    a new actor.
    """

    def __init__(self, workers: int | None = None) -> None:
        """Connect to the cluster of ``RAY_ADDRESS``, to one on this machine, or start one here.

        Args:
            workers: At most so many actors; by default one for each GPU of the cluster, or one for
                each node where there is none.

        Raises:
            MissingExtraError: Ray is not installed.
            EngineError: The cluster cannot be reached.
        """
        # Nothing is sent anywhere unless the user says so.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise MissingExtraError(
                "the engine ray needs Ray: pip install 'synthvlm[ray]'"
            ) from None
        self._ray, self._wanted = ray, workers
        self._members: dict[str, _Member] = {}
        self._names = count()
        if not ray.is_initialized():
            before = signal.getsignal(signal.SIGTERM)
            try:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise EngineError(
                    f"no Ray cluster: {first_line(error)}; RAY_ADDRESS says which one, without it "
                    f"one is started here"
                ) from error
            # Ray takes it for itself, to end what it has started; that it does at every exit.
            if callable(before) and signal.getsignal(signal.SIGTERM) is not before:
                signal.signal(signal.SIGTERM, before)

    @property
    def workers(self) -> int:
        """How many actors there are now; those that wait for room are not."""
        return sum(member.node is not None for member in self._members.values())

    def gpus(self) -> int:
        """How many GPUs the cluster has."""
        return int(self._ray.cluster_resources().get("GPU", 0))

    def run(
        self, make_worker: MakeWorker, shards: Sequence[int], progress: Reporter
    ) -> Generator[Update]:
        """Yield the result of each shard as it finishes, and what becomes of the actors."""
        crew = Crew(shards, progress)
        job = self._ray.put(make_worker)
        looked, known, waiting = time.monotonic(), -1, 0
        try:
            while not crew.is_over:
                if len(self._members) != known or time.monotonic() - looked >= _LOOK_S:
                    looked = time.monotonic()
                    self._hire(job, crew)
                    known = len(self._members)
                    waiting = yield from self._tell_of_waiting(waiting, progress)
                yield from self._listen(crew)
                yield from crew.silent()
        finally:
            members = list(self._members.values())
            self._members.clear()
            self._dismiss(members)

    def _room(self) -> int:
        """How many actors the cluster has room for."""
        room = self.gpus() or sum(node["Alive"] for node in self._ray.nodes())
        return room if self._wanted is None else self._wanted

    def _hire(self, job: Any, crew: Crew) -> None:
        """Ask for actors, as many as there is room and work for."""
        resource = "num_gpus" if self.gpus() else "num_cpus"
        room = min(self._room() - len(self._members), crew.dispatch.waiting)
        for _ in range(room):
            member = _Member(str(next(self._names)), self._ray, job, resource)
            self._members[member.name] = member

    def _tell_of_waiting(self, told: int, progress: Reporter) -> Generator[Update, None, int]:
        """Say how many actors wait for room, where that is another number than was told."""
        waiting = 0
        for member in self._members.values():
            if member.waits():
                waiting += 1
                if not member.is_told_of:
                    member.is_told_of = True
                    yield WorkerChange(member.name, "waits")
        if waiting != told:
            kind = "GPU" if self.gpus() else "CPU"
            of = f"{waiting} of {len(self._members)} workers"
            free = self._ray.available_resources().get(kind, 0)
            there = self._ray.cluster_resources().get(kind, 0)
            progress.note(
                f"{of} wait for a {kind} of the Ray cluster, {free:g} of its {there:g} are free"
                if waiting
                else f"no worker waits for a {kind} of the Ray cluster any more"
            )
        return waiting

    def _listen(self, crew: Crew) -> Iterator[Update]:
        """Wait for messages and deaths, and take what has come."""
        heard = {member.messages: member for member in self._members.values()}
        if not heard:
            time.sleep(_LOOK_S / 10)
            return
        ready, _ = self._ray.wait(list(heard), timeout=_LOOK_S)
        for reference in ready:
            member = heard[reference]
            try:
                messages: list[Message] = self._ray.get(reference)
            except self._ray.exceptions.ActorUnavailableError:
                member.again()  # the network, perhaps; if it is dead that is told next
                continue
            except self._ray.exceptions.RayError as error:
                messages = [("crash", _reason(error))]
            if not member.has_started and member.is_there():
                member.has_started = True
                yield WorkerChange(member.name, "started")
            member.heard += len(messages)
            for message in messages:
                if message[0] == "crash":
                    yield from self._bury(crew, member, message[1])
                    break
                yield from crew.heard(member, message)
            else:
                member.listen()

    def _bury(self, crew: Crew, member: _Member, problem: str) -> Iterator[Update]:
        """Take leave of an actor; its shards are not to blame where its node is gone, too."""
        del self._members[member.name]
        alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        lost_node = member.node is not None and member.node not in alive
        member.kill()
        yield from crew.died(member, problem, workers=max(1, self._room()), blame=not lost_node)

    def _dismiss(self, members: Sequence[_Member]) -> None:
        """Let workers commit what they have drawn, but not for ever."""
        try:
            # One that still waits for room on the cluster has nothing to commit.
            ends = [member.stop() for member in members if member.is_there()]
            if ends:
                self._ray.wait(ends, num_returns=len(ends), timeout=_GRACE_S)
        finally:
            for member in members:
                member.kill()


class _Member:
    """An actor, and what the driver waits for from it.

    A call, or what it returns, may be lost on the way. So the actor keeps what it has said until
    the driver has it, and replies are numbered and may come twice.
    """

    def __init__(self, name: str, ray: Any, job: Any, resource: str) -> None:
        self.name, self._ray = name, ray
        actor = ray.remote(_Actor).options(
            max_restarts=0, max_concurrency=4, scheduling_strategy="SPREAD", **{resource: 1}
        )
        self._actor = actor.remote(job, os.getcwd())
        self.node: str | None = None
        self.is_told_of = self.has_started = False
        self._asked_for = time.monotonic()
        self.heard = 0
        self._replies, self._last = 0, None  # type: tuple[int, int | None]
        self._where = self._actor.node.remote()
        self.listen()

    def listen(self) -> None:
        """Ask for what the worker says next."""
        self.is_there()
        self.messages = self._actor.hear.remote(self.heard)

    def again(self) -> None:
        """A call was lost: say again what may not have arrived, and listen."""
        if self._replies:
            self._actor.reply.remote(self._replies, self._last)
        if self.node is None:
            self._where = self._actor.node.remote()
        self.listen()

    def is_there(self) -> bool:
        """Whether it has been started, and on which node."""
        if self.node is None and self._ray.wait([self._where], timeout=0)[0]:
            with suppress(self._ray.exceptions.RayError):
                self.node = self._ray.get(self._where)
        return self.node is not None

    def waits(self) -> bool:
        """Whether it is not there, and that for too long to be merely starting."""
        return not self.is_there() and time.monotonic() - self._asked_for >= _START_S

    def reply(self, shard: int | None) -> None:
        self._replies, self._last = self._replies + 1, shard
        self._actor.reply.remote(self._replies, shard)

    def stop(self) -> Any:
        """Ask it to stop; returns what is ready when it has."""
        return self._actor.stop.remote()

    def kill(self) -> None:
        with suppress(Exception):  # it is gone
            self._ray.kill(self._actor)


class _Actor:
    """Serves a worker on a thread, and the driver on others."""

    def __init__(self, make_worker: MakeWorker, folder: str) -> None:
        # Relative paths mean what they mean to the driver, where its folder exists here.
        with suppress(OSError):
            os.chdir(folder)
        quiet_libraries()
        self._news = Condition()
        self._unheard: list[Message] = []
        self._heard = self._replies = 0
        self._channel = Channel(self._say)
        self._thread = Thread(target=self._channel.serve, args=(make_worker,), daemon=True)
        self._thread.start()

    def node(self) -> str:
        """Where this is."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def hear(self, heard: int) -> list[Message]:
        """What the worker has said after so many messages, which have arrived."""
        with self._news:
            if heard > self._heard:
                del self._unheard[: heard - self._heard]
                self._heard = heard
            self._news.wait_for(lambda: self._unheard, _PATIENCE_S)
            return list(self._unheard)

    def reply(self, number: int, shard: int | None) -> None:
        """Answer the worker, once."""
        with self._news:
            is_new, self._replies = number > self._replies, max(number, self._replies)
        if is_new:
            self._channel.reply(shard)

    def stop(self) -> None:
        """Stop the worker, and wait until it has."""
        self._channel.stop()
        self._thread.join()

    def _say(self, message: Message) -> None:
        with self._news:
            self._unheard.append(message)
            self._news.notify_all()


def _reason(error: Exception) -> str:
    """What Ray says of a dead actor, in a line, without its advice."""
    text = " ".join(str(error).split())
    detail = re.search(r"Worker exit detail: (.*?)(?: Some common causes|$)", text)
    if detail is not None:
        return f"its process died: {detail[1]}"
    if "raised in its creation task" in text:  # on its node something is missing, a plug-in say
        last = str(error).strip().splitlines()[-1]
        return f"it cannot be made there: {re.sub(r'^synthvlm[.]errors[.][A-Za-z]+: ', '', last)}"
    return text[text.find("The actor ") :][:300] if "The actor " in text else text[:300]
