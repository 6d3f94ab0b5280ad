"""Which worker gets which shard, and what becomes of shards whose worker died."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from synthvlm.engines.base import LostShard
from synthvlm.errors import EngineError

__all__ = ["ATTEMPTS", "Dispatch"]

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
