"""What the files of a trial weigh, and how many images its captions need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from synthvlm.data import Candidate
from synthvlm.estimates import Estimate, mean_interval
from synthvlm.run_folder.folder import table_bytes
from synthvlm.stages.generation.calibrate import choose_stopping
from synthvlm.stages.generation.candidate_plan import CandidatePlan

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["Footprint", "candidate_rows", "images_per_caption"]


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes in a run folder.

    Attributes:
        shard: Of the files of a shard, whatever they hold.
        caption: Of an input caption, in ``measures/`` and ``captions/``.
        candidate: Of a candidate, in ``candidates/``.
        pair: Of a pair beside its image, in ``pairs/``.
        image: Of an encoded image.
    """

    shard: float
    caption: float
    candidate: float
    pair: float
    image: Estimate

    @classmethod
    def of(cls, generated: RunFolder, curated: RunFolder) -> Footprint:
        """Weigh the tables of two run folders; at least one pair must be there."""
        pairs = _table(generated, "generate", "pairs")
        measured = _weigh(_table(curated, "measure", "measures"))
        judged = _weigh(_table(curated, "curate", "captions"))
        drawn = _weigh(_table(generated, "generate", "candidates"))
        paired = _weigh(pairs.drop_columns(["image"]))
        return cls(
            sum(one.file for one in (measured, judged, drawn, paired)),
            measured.row + judged.row,
            drawn.row,
            paired.row,
            mean_interval([len(image) for image in pairs["image"].to_pylist()]),
        )


def candidate_rows(run: RunFolder) -> list[Candidate]:
    """All candidates of a run folder, in the order of shards."""
    return [Candidate.of_row(row) for row in _table(run, "generate", "candidates").to_pylist()]


def images_per_caption(rows: Sequence[Candidate], recipe: Recipe) -> Estimate:
    """Images that a caption needs: all candidates, or fewer with adaptive best-of-k.

    Args:
        rows: All candidates of some captions, a caption's together and in order.
        recipe: Where adaptive best-of-k has no threshold, it is found on these rows, as
            calibration would find it.
    """
    count, adaptive = recipe.generation.candidates, recipe.generation.adaptive
    if adaptive is None:
        return Estimate.exact(count)
    threshold, decay = adaptive.threshold, adaptive.decay
    if threshold is None:
        scores = np.array([np.nan if row.score is None else row.score for row in rows])
        found = choose_stopping(scores.reshape(-1, count), adaptive.keep_gain)
        threshold, decay = found.threshold, found.decay
    ids = list(dict.fromkeys(row.caption_id for row in rows))
    thresholds = [threshold - decay * index for index in range(count)]
    known = {(row.caption_id, row.index): row for row in rows}
    plan = CandidatePlan(ids, count, thresholds, known)
    needed = mean_interval([count - len(plan.unneeded(id)) for id in ids])
    if needed.low is None or needed.high is None:
        return needed
    return Estimate(needed.value, max(1.0, needed.low), min(float(count), needed.high))


def _table(run: RunFolder, stage: str, folder: str) -> pa.Table:
    """The rows of all shards of a stage; at least one must have a file there."""
    import pyarrow as pa

    names = [marker.file(folder) for _, marker in sorted(run.markers(stage).items())]
    return pa.concat_tables(run.read_table(name) for name in names if name is not None)


class _Weight(NamedTuple):
    """Bytes of a file without rows, and of a row."""

    file: float
    row: float


def _weigh(table: pa.Table) -> _Weight:
    """The line through the sizes of a file with one row and of one with all."""
    one, whole = len(table_bytes(table.slice(0, 1))), len(table_bytes(table))
    row = (whole - one) / (len(table) - 1) if len(table) > 1 else float(one)
    return _Weight(one - row, row)
