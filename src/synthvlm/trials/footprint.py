"""What the files of a trial weigh, and how many images its captions need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synthvlm.data import Candidate
from synthvlm.stages.calibrate import choose_stopping
from synthvlm.stages.candidate_plan import CandidatePlan
from synthvlm.trials.intervals import Estimate, mean_of

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.store import RunFolder

__all__ = ["Footprint", "candidate_rows", "images_per_caption"]


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes in a run folder, Parquet's own at the end of each file aside.

    Attributes:
        caption: Of an input caption, in ``measures/`` and ``captions/``.
        candidate: Of a candidate, in ``candidates/``.
        pair: Of a pair beside its image, in ``pairs/``.
        image: Of an encoded image.
    """

    caption: float
    candidate: float
    pair: float
    image: Estimate

    @classmethod
    def of(cls, generated: RunFolder, curated: RunFolder) -> Footprint:
        """Weigh the files of two local run folders; at least one pair must be there."""
        pairs = _files(generated, "generate", "pairs")
        tables = [generated.read_table(name, ["image"]) for name in pairs]
        images = [len(image) for table in tables for image in table["image"].to_pylist()]
        return cls(
            sum(
                _row_bytes(curated, _files(curated, stage, folder))
                for stage, folder in (("measure", "measures"), ("curate", "captions"))
            ),
            _row_bytes(generated, _files(generated, "generate", "candidates")),
            max(0.0, _row_bytes(generated, pairs) - sum(images) / len(images)),
            mean_of(images),
        )


def candidate_rows(run: RunFolder) -> list[Candidate]:
    """All candidates of a run folder, in the order of shards."""
    names = _files(run, "generate", "candidates")
    return [Candidate(**row) for name in names for row in run.read_table(name).to_pylist()]


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
    needed = mean_of([count - len(plan.unneeded(id)) for id in ids])
    if needed.low is None or needed.high is None:
        return needed
    return Estimate(needed.value, max(1.0, needed.low), min(float(count), needed.high))


def _files(run: RunFolder, stage: str, folder: str) -> list[str]:
    names = [marker.file(folder) for _, marker in sorted(run.markers(stage).items())]
    return [name for name in names if name is not None]


def _row_bytes(run: RunFolder, names: Sequence[str]) -> float:
    """Bytes per row, without the files' own descriptions, which weigh little in large files."""
    import pyarrow.parquet as pq

    size = rows = 0
    for name in names:
        path = run.path(name)
        facts = pq.read_metadata(path)
        listed = run.listing(name.split("/", 1)[0])[name]
        size += listed - facts.serialized_size
        rows += facts.num_rows
    return size / rows if rows else 0.0
