"""Which captions are still in while curation goes on, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.run_folder.folder import Marker, RunFolder
    from synthvlm.stages.curation.rules import Bounds

__all__ = ["DUPLICATE", "NEAR_DUPLICATE", "UNMEASURED", "UNREADABLE", "Verdicts"]

#: Reasons beside the names of rules.
UNREADABLE = "unreadable"
DUPLICATE = "duplicate"
NEAR_DUPLICATE = "near_duplicate"
UNMEASURED = "unmeasured"


class Verdicts:
    """The verdicts on all captions, a shard at a time; a rejected caption is never let in again.

    Attributes:
        measures: The markers of the measured shards.
        twins: For each shard, by row, the id of the caption that was kept instead.
        problems: For each shard, by row, why a rule could not measure the caption.
    """

    def __init__(self, run: RunFolder, measures: Mapping[int, Marker]) -> None:
        """All captions are in that could be read."""
        self._run = run
        self.measures = dict(sorted(measures.items()))
        self.twins: dict[int, dict[int, str]] = {shard: {} for shard in self.measures}
        self.problems: dict[int, dict[int, str]] = {shard: {} for shard in self.measures}
        self._reasons: dict[int, np.ndarray] = {}
        for shard in self.measures:
            unreadable = self.table(shard, ["problem"])["problem"].is_valid()
            reasons = np.full(len(unreadable), None, np.object_)
            reasons[unreadable.to_numpy(zero_copy_only=False)] = UNREADABLE
            self._reasons[shard] = reasons

    def table(self, shard: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The measures of a shard."""
        name = self.measures[shard].file("measures")
        assert name is not None
        return self._run.read_table(name, columns)

    def surviving(self, shard: int) -> np.ndarray:
        """Rows of a shard that are still in; int64, ascending."""
        passing: np.ndarray = self._reasons[shard] == None  # noqa: E711 (element by element)
        return passing.nonzero()[0]

    def remaining(self) -> int:
        """How many captions are still in."""
        return sum(len(self.surviving(shard)) for shard in self.measures)

    def reasons(self, shard: int) -> np.ndarray:
        """For each row of a shard the reason of its rejection, or None; an object array."""
        return self._reasons[shard]

    def reject(self, shard: int, rows: np.ndarray | Sequence[int], reason: str) -> None:
        """Reject rows of a shard."""
        self._reasons[shard][np.asarray(rows, np.int64)] = reason

    def apply_text_bounds(self, bounds: Mapping[str, Bounds]) -> None:
        """Reject what fails a model-free rule, each caption by the first that it fails."""
        from synthvlm.captions.rules.method import failed_rule

        for shard in self.measures if bounds else ():
            table = self.table(shard, list(bounds))
            failed = failed_rule(
                {name: table[name].to_numpy(zero_copy_only=False) for name in bounds}, bounds
            )
            rows = self.surviving(shard)
            self._reasons[shard][rows] = failed[rows]
