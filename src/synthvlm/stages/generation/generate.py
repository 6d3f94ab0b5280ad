"""Generate, score and choose: captions in, the best candidate of each out.

A worker does a shard in one go. Only winners are encoded and written; of the losers the scores
stay, and thumbnails for a share of the captions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from synthvlm.engines.base import LostShard, ShardResult
from synthvlm.errors import TooManyFailuresError
from synthvlm.stages.generation.calibrate import Sample, thresholds_of
from synthvlm.stages.generation.engine_events import note_update
from synthvlm.stages.generation.prompts import (
    STAGE,
    image_dependencies,
    image_fingerprint,
    read_prompts,
    shard_fingerprint,
)
from synthvlm.stages.generation.shard_attempt import COUNTS
from synthvlm.stages.generation.worker import GenerationJob
from synthvlm.stages.summary import StageSummary

if TYPE_CHECKING:
    from synthvlm.engines.base import Engine, Update
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder
    from synthvlm.stages.generation.models import Models

__all__ = ["generate"]

FOLDERS = ("candidates", "pairs", "previews")


def generate(
    run: RunFolder,
    recipe: Recipe,
    engine: Engine,
    captions: dict[int, Marker],
    progress: Progress,
    load_models: Callable[[Recipe], Models],
) -> StageSummary:
    """Bring every shard of candidates and pairs up to date with its captions and the recipe.

    Args:
        run: The run folder.
        recipe: With dtype and threads resolved.
        engine: Where shards run.
        captions: The markers of the curate stage.
        progress: Shows candidates done.
        load_models: Loads what the recipe names, where a worker is.

    Raises:
        TooManyFailuresError: More candidates failed, or are in shards that were set aside, than
            ``run.max_failed_share`` allows.
        ModelError: A model cannot be loaded.
        EngineError: Workers die whatever they are given.
    """
    began = time.monotonic()
    shared = image_fingerprint(recipe)
    done = run.markers(STAGE)
    adaptive = recipe.generation.adaptive
    sample = Sample(adaptive.sample if adaptive is not None else 0)
    for marker in captions.values() if adaptive is not None else ():
        sample.add(read_prompts(run, marker, shared))
    thresholds, calibrated = thresholds_of(
        run, recipe, engine, load_models, shared, sample, progress
    )
    sizes: dict[int, int] = {}
    upheld: set[int] = set()
    for shard, marker in captions.items():
        prompts = read_prompts(run, marker, shared)
        sizes[shard] = len(prompts) * recipe.generation.candidates
        if _is_current(done.get(shard), shard_fingerprint(recipe, shared, thresholds, prompts)):
            upheld.add(shard)
    stale = [shard for shard in captions if shard not in upheld]
    _announce_repeated(recipe, [done[shard] for shard in stale if shard in done], progress)
    total = sum(sizes.values())
    progress.start(STAGE, total, "candidates", sum(sizes[shard] for shard in upheld))
    job = GenerationJob(run, recipe, load_models, shared, captions, calibrated, thresholds)
    work = _Work(run, recipe, math.ceil(recipe.run.max_failed_share * total), progress)
    with closing(engine.run(job, stale, progress)) as updates:
        for update in updates:
            size = sizes[update.shard] if isinstance(update, LostShard) else 0
            work.take(update, size)
            progress.crew(engine.workers, work.waited, work.counts["failed"])
            work.check_failed()
    # A kill may take the event of a shard that was set aside before and is done now.
    run.event("shards", stage=STAGE, set_aside=[lost.shard for lost in work.lost])
    run.flush_events()
    work.check_lost()
    # Shards beyond a lowered limit keep their images: they were dear, and may be wanted again.
    run.sweep(STAGE, FOLDERS, run.markers(STAGE))
    return StageSummary(
        STAGE,
        len(captions),
        len(upheld),
        work.counts,
        time.monotonic() - began,
        work.waited,
        [lost.shard for lost in work.lost],
    )


class _Work:
    """Adds up what the workers did."""

    def __init__(self, run: RunFolder, recipe: Recipe, allowed: int, progress: Progress) -> None:
        self._run, self._recipe, self._progress = run, recipe, progress
        self._allowed = allowed
        self.counts = dict.fromkeys(COUNTS, 0)
        self.lost: list[LostShard] = []
        self._lost_candidates = 0
        self._failing: int | None = None  # the first shard with failed candidates
        self._seconds = self._generation_seconds = 0.0

    @property
    def waited(self) -> float | None:
        """Share of the workers' time in which the generator waited."""
        return (
            max(0.0, 1 - self._generation_seconds / self._seconds)
            if self._generation_seconds
            else None
        )

    def take(self, update: Update, size: int) -> None:
        """Count an update in; size: the candidates of a shard that is lost."""
        if isinstance(update, LostShard):
            self.lost.append(update)
            self._lost_candidates += size
            note_update(self._run, STAGE, update, candidates=size)
            return
        note_update(self._run, STAGE, update)
        if isinstance(update, ShardResult):
            for name in self.counts:
                self.counts[name] += update.counts[name]
            if self._failing is None and update.counts["failed"]:
                self._failing = update.shard
            self._seconds += update.seconds
            self._generation_seconds += update.generation_seconds

    def check_failed(self) -> None:
        """Stop where more candidates failed than the recipe allows."""
        failed = self.counts["failed"]
        if failed > self._allowed:
            raise TooManyFailuresError(
                f"{STAGE}: {failed} candidates failed, more than run.max_failed_share "
                f"({self._recipe.run.max_failed_share}) allows; the first: "
                f"{self._first_problem()}; all reasons are in the column `problem` of "
                f"{self._run.path('candidates')}; mend the cause and run again, what is finished "
                f"is kept"
            )

    def _first_problem(self) -> str:
        """Why the first candidate failed."""
        marker = None if self._failing is None else self._run.marker(STAGE, self._failing)
        name = None if marker is None else marker.file("candidates")
        problems = []
        if name is not None:
            rows = self._run.read_table(name, ["status", "problem"]).to_pylist()
            problems = [row["problem"] for row in rows if row["status"] == "failed"]
        return next(filter(None, problems), "unknown")

    def check_lost(self) -> None:
        """At the end: stop where shards that were set aside are too many."""
        lines = [
            f"{STAGE}: shard {lost.shard} is set aside: {lost.deaths} workers died of it; the "
            f"last: {lost.problem}"
            for lost in self.lost
        ]
        if self.counts["failed"] + self._lost_candidates > self._allowed:
            lines.append(
                f"{STAGE}: shards that are set aside hold {self._lost_candidates} candidates, more "
                f"than run.max_failed_share ({self._recipe.run.max_failed_share}) allows to fail; "
                f"all other shards are finished; mend the cause and run again"
            )
            raise TooManyFailuresError("\n".join(lines))
        for line in lines:
            self._progress.note(f"warning: {line}; the next run tries it again")


def _announce_repeated(recipe: Recipe, stale: Sequence[Marker], progress: Progress) -> None:
    """Say how many images of an earlier run are made again, and why, before that is done."""
    now = image_dependencies(recipe)
    repeated, reasons = 0, dict[str, None]()
    for marker in stale:
        before = marker.facts.get("depends")
        if before == now:
            continue
        counts = marker.facts
        repeated += counts.get("candidates", 0) - counts.get("skipped", 0)
        if before is None:
            reasons["the folder is of an earlier version of synthvlm"] = None
        else:
            changed = {part for part in {*before, *now} if before.get(part) != now.get(part)}
            reasons |= {f"{part} changed": None for part in sorted(changed)}
    if repeated:
        progress.note(f"note: {repeated:,} images are made again: {'; '.join(reasons)}")


def _is_current(marker: Marker | None, fingerprint: str) -> bool:
    """Whether a shard is as wanted; one with failures is tried again."""
    return (
        marker is not None
        and marker.fingerprint == fingerprint
        and not marker.facts.get("failed", 0)
    )
