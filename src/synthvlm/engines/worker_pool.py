"""The driver's end: what workers elsewhere say, and what they are told.

`Dispatch` is the book of shards; `Silence` finds workers that hang.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from synthvlm.engines.base import LostShard, Reporter, Update, WorkerChange
from synthvlm.engines.channel import Message
from synthvlm.errors import EngineError

__all__ = ["ATTEMPTS", "Crew", "Dispatch", "Member", "Silence"]

#: A shard whose workers died that often is set aside.
ATTEMPTS = 3
#: So many workers may die one after the other, with no shard finished in between.
_HOPELESS = 10


class Dispatch:
    """The book of a run's shards: to do, in hand, finished, set aside.

    A worker may hold two shards, of which it commits one and draws the other. Where it dies, any
    of them may be to blame, so each is tried again at the end, and alone.
    """

    def __init__(self, shards: Sequence[int]) -> None:
        """Begin with all to do, in their order."""
        self._untried = deque(shards)
        self._suspects: deque[int] = deque()
        self._deaths: Counter[int] = Counter()
        self._hands: dict[str, list[int]] = {}
        self._deaths_in_a_row = 0

    @property
    def is_over(self) -> bool:
        """Whether every shard is finished or set aside."""
        return not self.waiting and not any(self._hands.values())

    @property
    def waiting(self) -> int:
        """Shards that nobody has in hand."""
        return len(self._untried) + len(self._suspects)

    def next(self, worker: str) -> int | None:
        """A shard for a worker; None: none for now, it should finish what it has."""
        hands = self._hands.setdefault(worker, [])
        if any(self._deaths[shard] for shard in hands):
            return None  # alone, so that its next death is nobody else's
        if self._untried:
            shard = self._untried.popleft()
        elif self._suspects and not hands:
            shard = self._suspects.popleft()
        else:
            return None
        hands.append(shard)
        return shard

    def finished(self, worker: str, shard: int) -> None:
        """A worker has committed a shard."""
        self._hands[worker].remove(shard)
        self._deaths_in_a_row = 0

    def died(
        self, worker: str, problem: str, *, workers: int = 1, blame: bool = True
    ) -> list[LostShard]:
        """A worker is gone; what it had in hand is tried again, or set aside.

        Args:
            worker: Its name.
            problem: Why, as far as is known.
            workers: How many there should be.
            blame: False where the shards have nothing to do with it: its machine is gone.

        Returns:
            The shards that are set aside by this.

        Raises:
            EngineError: Workers die one after the other, and none finishes a shard.
        """
        hands = self._hands.pop(worker, [])
        if not blame:
            self._untried.extendleft(reversed(hands))
            return []
        lost = []
        for shard in hands:
            self._deaths[shard] += 1
            if self._deaths[shard] < ATTEMPTS:
                self._suspects.append(shard)
            else:
                lost.append(LostShard(shard, self._deaths[shard], problem))
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row >= max(_HOPELESS, ATTEMPTS * workers):
            raise EngineError(
                f"{self._deaths_in_a_row} workers died one after the other, and none finished a "
                f"shard; the last: {problem}; mend the cause and run again, what is finished is "
                f"kept"
            )
        return lost


#: So many times the longest silence that any worker broke, and at least so long, is remarkable.
_FACTOR = 10
_LEAST_S = 60.0
#: The driver looks every few seconds. Who did not for so long was stopped, or waited for a store.
_AWAY_S = 30.0


class Silence:
    """The time since each worker at work was heard of, against how long that took before.

    The loading of models is a silence, too, which the first worker that breaks it makes known.
    While the driver does not look, no time passes: what was said meanwhile it has yet to hear.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take a clock that counts seconds and only grows."""
        self._clock = clock
        self._looked, self._away = clock(), 0.0
        self._heard: dict[str, float] = {}
        self._told: set[str] = set()
        self._longest: float | None = None

    def begun(self, worker: str) -> None:
        """A worker has something in hand, from now on if it had nothing."""
        self._heard.setdefault(worker, self._now())

    def heard(self, worker: str) -> bool:
        """A worker says something; returns whether it was told of as silent."""
        now = self._now()
        if worker in self._heard:
            self._longest = max(self._longest or 0.0, now - self._heard[worker])
            self._heard[worker] = now
        was_told = worker in self._told
        self._told.discard(worker)
        return was_told

    def left(self, worker: str) -> None:
        """A worker has nothing in hand, or is gone."""
        self._heard.pop(worker, None)
        self._told.discard(worker)

    def news(self) -> dict[str, str]:
        """Workers that have become remarkably silent, and for how long, in words."""
        now = self._now()
        if self._longest is None:
            return {}
        bound = max(_LEAST_S, _FACTOR * self._longest)
        found = {
            worker: f"nothing heard of it for {(now - heard) / 60:.0f} min, and of no worker for "
            f"more than {self._longest:.0f} s before"
            for worker, heard in self._heard.items()
            if now - heard > bound and worker not in self._told
        }
        self._told |= found.keys()
        return found

    def _now(self) -> float:
        """The clock's time, less that in which the driver was away."""
        before, self._looked = self._looked, self._clock()
        if self._looked - before > _AWAY_S:
            self._away += self._looked - before
        return self._looked - self._away


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
