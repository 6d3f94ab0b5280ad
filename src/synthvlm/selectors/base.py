"""What a selector is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthvlm.components.component import Component
from synthvlm.errors import PluginError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = ["Selector", "check_rows"]


class Selector(Component):
    """Chooses the pairs of the data set.

    It sees all pairs of the run at once, without pixels, and must be deterministic: the same
    pairs, in any order of shards, give the same selection.
    """

    def select(self, pairs: pa.Table, count: int | None) -> np.ndarray:
        """The rows of the pairs to keep, best first.

        Args:
            pairs: One row for each pair that has the minimum scores: ``caption_id``, ``index``,
                ``<name>_score`` of each scorer, ``score``, ``shard``.
            count: How many to keep, where there are so many; None: as many as fit.

        Returns:
            Row numbers, int64, shape (kept,), each once.
        """
        raise NotImplementedError


def check_rows(name: str, rows: np.ndarray, pairs: int, count: int | None) -> None:
    """Hold a selector to its contract.

    Raises:
        PluginError: It did not return distinct rows of the pairs; the message names it.
    """
    import numpy as np

    problem = ""
    if not isinstance(rows, np.ndarray) or rows.ndim != 1 or rows.dtype.kind not in "iu":
        problem = "it returned no array of row numbers"
    elif len(rows) and not (rows.min() >= 0 and rows.max() < pairs):
        problem = f"it returned rows beyond the {pairs} pairs"
    elif len(np.unique(rows)) != len(rows):
        problem = "it returned a row twice"
    elif count is not None and len(rows) > count:
        problem = f"it returned {len(rows)} rows, {count} were asked for"
    if problem:
        raise PluginError(f"selector {name!r}: {problem}")
