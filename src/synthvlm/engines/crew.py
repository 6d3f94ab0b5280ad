"""The driver's end: what workers elsewhere say, and what they are told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from synthvlm.engines.base import Reporter, Update, WorkerChange
from synthvlm.engines.channel import Message
from synthvlm.engines.dispatch import Dispatch
from synthvlm.engines.silence import Silence

__all__ = ["Crew", "Member"]


class Member(Protocol):
    """A worker elsewhere."""

    name: str

    def reply(self, shard: int | None) -> None:
        """Answer its ``ask``."""


class Crew:
    """Answers workers from the book of shards, and tells the stage what happens."""

    def __init__(self, shards: Sequence[int], progress: Reporter) -> None:
        """Begin with all shards to do."""
        self.dispatch = Dispatch(shards)
        self._progress = progress
        self._idle: dict[str, Member] = {}
        self._silence = Silence()
        # What each worker has done of each shard that it has in hand, the last one at the end.
        self._advanced: dict[str, dict[int, int]] = {}

    @property
    def is_over(self) -> bool:
        """Whether every shard is finished or set aside."""
        return self.dispatch.is_over

    def heard(self, member: Member, message: Message) -> Iterator[Update]:
        """Take a message.

        Raises:
            SynthVLMError: The worker met one that stops the run.
        """
        kind, value = message
        if self._silence.heard(member.name):
            self._progress.note(f"worker {member.name} is heard of again")
            yield WorkerChange(member.name, "heard")
        if kind == "advance":
            of = self._advanced[member.name]
            of[next(reversed(of))] += value
            self._progress.advance(value)
        elif kind == "note":
            self._progress.note(value)
        elif kind == "ask":
            shard = self.dispatch.next(member.name)
            if shard is None and value:
                self._idle[member.name] = member
                self._silence.left(member.name)
            else:
                self._give(member, shard)
        elif kind == "result":
            self.dispatch.finished(member.name, value.shard)
            self._advanced[member.name].pop(value.shard)
            yield replace(value, worker=member.name)
        else:
            assert kind == "error", kind
            raise value

    def silent(self) -> Iterator[Update]:
        """Tell of workers that may hang; to be asked now and then, when all messages are taken."""
        for worker, problem in self._silence.news().items():
            shards = " and ".join(f"shard {shard}" for shard in self._advanced.get(worker, {}))
            problem += f"; it has {shards or 'nothing'} in hand"
            self._progress.note(f"warning: worker {worker} may hang: {problem}")
            yield WorkerChange(worker, "silent", problem)

    def died(
        self, member: Member, problem: str, *, workers: int, blame: bool = True
    ) -> Iterator[Update]:
        """A worker is gone: what it had in hand goes to others, or is set aside.

        Raises:
            EngineError: Workers die one after the other, and none finishes a shard.
        """
        self._idle.pop(member.name, None)
        self._silence.left(member.name)
        # What it did of shards that it did not finish is done again.
        self._progress.advance(-sum(self._advanced.pop(member.name, {}).values()))
        yield WorkerChange(member.name, "died", problem)
        yield from self.dispatch.died(member.name, problem, workers=workers, blame=blame)
        for idle in list(self._idle.values()):
            shard = self.dispatch.next(idle.name)
            if shard is not None:
                del self._idle[idle.name]
                self._give(idle, shard)

    def _give(self, member: Member, shard: int | None) -> None:
        if shard is not None:
            self._advanced.setdefault(member.name, {})[shard] = 0
            self._silence.begun(member.name)
        member.reply(shard)
