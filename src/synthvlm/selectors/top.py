"""The best pairs by score, as the method selects them (arXiv 2407.20756, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from synthvlm.selectors.base import Selector, best_first

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = ["TopSelector"]


class TopSelector(Selector):
    """Best score first, ties by caption id."""

    name: ClassVar[str] = "top"

    def select(self, pairs: pa.Table, count: int | None) -> np.ndarray:
        """The rows of the best ``count`` pairs, or of all, in the order of their rank."""
        return best_first(pairs)[:count]
