"""What was computed of the texts used last: candidates of one caption come one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

__all__ = ["RecentValues"]

_T = TypeVar("_T")


class RecentValues(Generic[_T]):
    """Values of the texts used last; those of all new texts of a batch are computed at once."""

    def __init__(self, size: int, compute: Callable[[list[str]], Iterable[_T]]) -> None:
        """Nothing is computed yet.

        Args:
            size: Number of texts that are remembered between two batches.
            compute: Gives one value for each of some different texts, in their order.
        """
        self._size = size
        self._compute = compute
        self._values: dict[str, _T] = {}

    def of(self, texts: Sequence[str]) -> list[_T]:
        """The value of each text."""
        unique = list(dict.fromkeys(texts))
        fresh = [text for text in unique if text not in self._values]
        new = dict(zip(fresh, self._compute(fresh), strict=True)) if fresh else {}
        for text in unique:  # the last used come last
            self._values[text] = new[text] if text in new else self._values.pop(text)
        values = [self._values[text] for text in texts]
        for text in list(self._values)[: max(0, len(self._values) - self._size)]:
            del self._values[text]
        return values
