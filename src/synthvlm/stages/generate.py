"""Generate, score and choose: captions in, the best candidate of each out.

A worker does a shard in one go. Only winners are encoded and written; of the losers the scores
stay, and thumbnails for a share of the captions.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from synthvlm.errors import TooManyFailuresError
from synthvlm.stages.calibrate import Sample, thresholds_of
from synthvlm.stages.generation_worker import GenerationWorker
from synthvlm.stages.prompts import STAGE, image_fingerprint, read_prompts, shard_fingerprint
from synthvlm.stages.shard_attempt import COUNTS
from synthvlm.stages.summary import StageSummary

if TYPE_CHECKING:
    from synthvlm.engines.base import Engine
    from synthvlm.progress import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.store import Marker, RunFolder

__all__ = ["generate"]

FOLDERS = ("candidates", "pairs", "previews")


def generate(
    run: RunFolder, recipe: Recipe, engine: Engine, captions: dict[int, Marker], progress: Progress
) -> StageSummary:
    """Bring every shard of candidates and pairs up to date with its captions and the recipe.

    Args:
        run: The run folder.
        recipe: With dtype and threads resolved.
        engine: Where shards run.
        captions: The markers of the curate stage.
        progress: Shows candidates done.

    Raises:
        TooManyFailuresError: More candidates failed than ``run.max_failed_share`` allows.
        ModelError: A model cannot be loaded.
    """
    began = time.monotonic()
    shared = image_fingerprint(recipe)
    done = run.markers(STAGE)
    adaptive = recipe.generation.adaptive
    sample = Sample(adaptive.sample if adaptive is not None else 0)
    for marker in captions.values() if adaptive is not None else ():
        sample.add(read_prompts(run, marker, shared))
    thresholds, calibrated = thresholds_of(run, recipe, engine, shared, sample, progress)
    stale: list[int] = []
    wanted, upheld = 0, 0
    for shard, marker in captions.items():
        prompts = read_prompts(run, marker, shared)
        wanted += len(prompts)
        if _is_current(done.get(shard), shard_fingerprint(recipe, shared, thresholds, prompts)):
            upheld += len(prompts)
        else:
            stale.append(shard)
    each = recipe.generation.candidates
    total = wanted * each
    progress.start(STAGE, total, "candidates", upheld * each)
    counts = dict.fromkeys(COUNTS, 0)
    allowed = math.ceil(recipe.run.max_failed_share * total)

    def make_worker() -> GenerationWorker:
        return GenerationWorker(run, recipe, captions, done, calibrated, thresholds, progress)

    for result in engine.run(make_worker, stale):
        for name in counts:
            counts[name] += result.counts[name]
        run.event(
            "shard",
            stage=STAGE,
            shard=result.shard,
            seconds=result.seconds,
            drawing_s=result.drawing_s,
            **result.counts,
        )
        run.flush_events()
        if counts["failed"] > allowed:
            raise TooManyFailuresError(
                f"generate: {counts['failed']} candidates failed, more than run.max_failed_share "
                f"({recipe.run.max_failed_share}) allows; the reasons are in the column `problem` "
                f"of {run.path('candidates')}; mend the cause and run again, what is finished is "
                f"kept"
            )
    # Shards beyond a lowered limit keep their images: they were dear, and may be wanted again.
    run.sweep(STAGE, FOLDERS, run.markers(STAGE))
    return StageSummary(
        STAGE, len(captions), len(captions) - len(stale), counts, time.monotonic() - began
    )


def _is_current(marker: Marker | None, fingerprint: str) -> bool:
    """Whether a shard is as wanted; one with failures is tried again."""
    return (
        marker is not None
        and marker.fingerprint == fingerprint
        and not marker.facts.get("failed", 0)
    )
