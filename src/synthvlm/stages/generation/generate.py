"""Generate, score and choose: captions in, the best candidate of each out.

A worker does a shard in one go. Only winners are encoded and written; of the losers the scores
stay, and thumbnails for a share of the captions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from synthvlm.data import Candidate, Pair
from synthvlm.engines.base import LostShard, Reporter, ShardResult
from synthvlm.errors import SynthVLMError, TooManyFailuresError
from synthvlm.stages.fingerprints import image_dependencies, shard_fingerprint
from synthvlm.stages.generation.batch_generator import BatchGenerator
from synthvlm.stages.generation.calibrate import Calibration, Sample, calibrate
from synthvlm.stages.generation.models import GenerationContext
from synthvlm.stages.generation.pixels import encoding_fact
from synthvlm.stages.generation.prompts import STAGE, ShardCaptions, read_prompts
from synthvlm.stages.generation.shard_attempt import COUNTS, ShardAttempt
from synthvlm.stages.generation.stored_images import (
    CANDIDATE_FOLDERS,
    PAIR_FOLDERS,
    LostImages,
    PreviousShard,
    changed_dependencies,
)
from synthvlm.stages.questions import with_questions
from synthvlm.stages.summary import StageSummary, record_update

if TYPE_CHECKING:
    from synthvlm.engines.base import Engine, Update
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder
    from synthvlm.stages.generation.candidate_plan import Key
    from synthvlm.stages.generation.models import Models
    from synthvlm.stages.generation.prompts import TakenCaptions
    from synthvlm.stages.generation.requests import Prompt

__all__ = ["GenerationJob", "GenerationWorker", "generate"]

FOLDERS = (*CANDIDATE_FOLDERS, *PAIR_FOLDERS, "previews")


def generate(
    run: RunFolder,
    recipe: Recipe,
    engine: Engine,
    captions: dict[int, Marker],
    progress: Progress,
    load_models: Callable[[Recipe], Models],
    *,
    replace_images: bool = False,
    taken: TakenCaptions | None = None,
) -> StageSummary:
    """Bring every shard of candidates and pairs up to date with its captions and the recipe.

    Args:
        run: The run folder.
        recipe: With dtype and threads resolved.
        engine: Where shards run.
        captions: The markers of the curate stage.
        progress: Shows candidates done.
        load_models: Loads what the recipe names, where a worker is.
        replace_images: Whether images of an earlier run may be lost.
        taken: Of a run with a target, the captions that count; None: all that are kept do.

    Raises:
        RunFolderError: Images would be lost.
        TooManyFailuresError: More candidates failed, or are in shards that were set aside, than
            ``run.max_failed_share`` allows.
        ModelError: A model cannot be loaded.
        EngineError: Workers die whatever they are given.
    """
    began = time.monotonic()
    context = GenerationContext(run, recipe, load_models, image_dependencies(recipe))
    done = run.markers(STAGE)
    calibration = calibrate(
        context, engine, partial(_sample, context, captions, done, taken), progress
    )
    job = GenerationJob(context, captions, calibration, taken)
    sizes, current = _sizes_and_current(job, done)
    stale = [shard for shard in captions if shard not in current]
    stored = {shard: done[shard] for shard in stale if shard in done}
    if not replace_images:
        _refuse_lost_images(context, stored, captions)
    _announce_repeated(context, list(stored.values()), progress)
    progress.start(STAGE, sum(sizes.values()), "candidates", sum(sizes[n] for n in current))
    totals = _Totals(run, recipe, sizes, progress)
    with closing(engine.run(job, stale, progress)) as updates:
        for update in updates:
            totals.record(update)
            failed = totals.counts["failed"]
            progress.update_workers(engine.workers, totals.waited, failed, totals.scorers)
            totals.check_failed()
    # If the run was killed, the event of a shard that was set aside before and is done now may be
    # missing; this one says how things stand.
    lost = [update.shard for update in totals.lost]
    run.event("shards", stage=STAGE, set_aside=lost)
    run.flush_events()
    totals.check_lost()
    # Shards beyond a lowered limit keep their images: they were expensive, and may be used again.
    run.sweep(STAGE, FOLDERS, run.markers(STAGE) if stale else done)
    seconds = time.monotonic() - began
    return StageSummary(
        STAGE, len(captions), len(current), totals.counts, seconds, totals.waited, lost
    )


def _sizes_and_current(
    job: GenerationJob, done: Mapping[int, Marker]
) -> tuple[dict[int, int], set[int]]:
    """How many candidates each shard has, and the shards that are up to date."""
    context, calibration = job.context, job.calibration
    recipe, shared = context.recipe, context.image_fingerprint
    sizes, current = {}, set()
    for shard in job.captions:
        prompts = job.prompts(shard)
        sizes[shard] = len(prompts) * recipe.generation.candidates
        expected = shard_fingerprint(
            recipe, shared, calibration.thresholds, prompts, calibration.sample
        )
        if _is_current(done.get(shard), expected):
            current.add(shard)
    return sizes, current


def _sample(
    context: GenerationContext,
    captions: Mapping[int, Marker],
    done: Mapping[int, Marker],
    taken: TakenCaptions | None,
    size: int,
) -> tuple[Sample, dict[Key, Candidate]]:
    """The captions to calibrate on, and what earlier runs generated of their candidates."""
    run, recipe, sample = context.run, context.recipe, Sample(size)
    among = taken if recipe.question_scorers else None  # no other captions have questions
    for shard, marker in captions.items():
        prompts = read_prompts(run, shard, marker, context.image_fingerprint, among)
        asked = with_questions(run, recipe, shard, prompts)
        sample.add(prompt for prompt in asked if prompt.problem is None)
    ids = {prompt.id for prompt in sample.prompts()}
    known = {}
    for marker in done.values():
        name = marker.file("candidates")
        for row in () if name is None else run.iter_rows(name, "caption_id", ids):
            known[row["caption_id"], row["index"]] = Candidate.of_row(row)
    return sample, known


class _Totals:
    """Adds up what the workers did, and stops the run where too much of it failed."""

    def __init__(
        self, run: RunFolder, recipe: Recipe, sizes: Mapping[int, int], progress: Progress
    ) -> None:
        self._run, self._sizes, self._progress = run, sizes, progress
        self._share = recipe.run.max_failed_share
        self._allowed = math.ceil(self._share * sum(sizes.values()))
        self.counts = dict.fromkeys(COUNTS, 0)
        self.lost: list[LostShard] = []
        self.scorers: dict[str, tuple[int, float]] = {}
        self._failing: int | None = None  # the first shard with failed candidates
        self._seconds = self._generation_seconds = 0.0

    @property
    def waited(self) -> float | None:
        """Share (0 .. 1) of the workers' time that the generator waited; None if it never ran."""
        if not self._generation_seconds:
            return None
        return max(0.0, 1 - self._generation_seconds / self._seconds)

    def record(self, update: Update) -> None:
        """Add an update to the totals and to the run's events."""
        if isinstance(update, LostShard):
            self.lost.append(update)
            record_update(self._run, STAGE, update, candidates=self._sizes[update.shard])
            return
        record_update(self._run, STAGE, update)
        if isinstance(update, ShardResult):
            for name in self.counts:
                self.counts[name] += update.counts[name]
            if self._failing is None and update.counts["failed"]:
                self._failing = update.shard
            for name, work in update.details["scorers"].items():
                images, seconds = self.scorers.get(name, (0, 0.0))
                self.scorers[name] = images + work["images"], seconds + work["seconds"]
            self._seconds += update.seconds
            self._generation_seconds += update.generation_seconds

    def check_failed(self) -> None:
        """Stop where more candidates failed than the recipe allows."""
        failed = self.counts["failed"]
        if failed > self._allowed:
            raise TooManyFailuresError(
                f"{STAGE}: {failed} candidates failed, more than run.max_failed_share "
                f"({self._share}) allows; the first: {self._first_problem()}; all reasons are in "
                f"the column `problem` of {self._run.path('candidates')}; fix the cause and run "
                f"again, what is finished is kept"
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
        """At the end: stop where the shards that were set aside are too many."""
        lines = [
            f"{STAGE}: shard {lost.shard} is set aside: {lost.deaths} workers died of it; the "
            f"last: {lost.problem}"
            for lost in self.lost
        ]
        candidates = sum(self._sizes[lost.shard] for lost in self.lost)
        if self.counts["failed"] + candidates > self._allowed:
            lines.append(
                f"{STAGE}: shards that are set aside hold {candidates} candidates, more "
                f"than run.max_failed_share ({self._share}) allows to fail; "
                f"all other shards are finished; fix the cause and run again"
            )
            raise TooManyFailuresError("\n".join(lines))
        for line in lines:
            self._progress.note(f"warning: {line}; the next run tries it again")


def _announce_repeated(
    context: GenerationContext, stale: Sequence[Marker], progress: Progress
) -> None:
    """Say, before it is done, how many images of an earlier run are generated again, and why."""
    repeated, reasons = 0, dict[str, None]()
    for marker in stale:
        changed = changed_dependencies(marker, context.image_dependencies)
        if changed:
            counts = marker.facts
            never = counts.get("skipped", 0) + counts.get("pending", 0)
            repeated += counts.get("candidates", 0) - never
            reasons |= dict.fromkeys(changed)
    if repeated:
        progress.note(f"note: {repeated:,} images are made again: {'; '.join(reasons)}")


def _is_current(marker: Marker | None, fingerprint: str) -> bool:
    """Whether a shard is up to date; one with failed or pending candidates is tried again."""
    return (
        marker is not None
        and marker.fingerprint == fingerprint
        and not marker.facts.get("failed", 0)
        and not marker.facts.get("pending", 0)
    )


def _refuse_lost_images(
    context: GenerationContext, stored: Mapping[int, Marker], captions: Mapping[int, Marker]
) -> None:
    """As ``refuse_lost_images``, of the captions as they were curated."""
    run, recipe = context.run, context.recipe
    lost = LostImages(run, recipe, context.image_dependencies)
    for shard, marker in stored.items():
        if not lost.add_changed(shard, marker):
            lost.add(marker, ShardCaptions.read(run, recipe, shard, captions[shard]))
    lost.refuse()


@dataclass(frozen=True, slots=True)
class GenerationJob:
    """What a generation worker needs to know; it is sent to where the worker is.

    Attributes:
        context: What all work of generation shares.
        captions: The markers of the curate stage.
        calibration: When a caption is done.
        taken: Of a run with a target, the captions that count; None: all that are kept do.
    """

    context: GenerationContext
    captions: Mapping[int, Marker]
    calibration: Calibration
    taken: TakenCaptions | None = None

    def prompts(self, shard: int) -> list[Prompt]:
        """The captions of a shard of which images are generated."""
        context = self.context
        captions, shared = self.captions[shard], context.image_fingerprint
        return read_prompts(context.run, shard, captions, shared, self.taken)

    def __call__(self, progress: Reporter) -> GenerationWorker:
        """Make the worker.

        Raises:
            ModelError: The models here are not those of the driver.
        """
        self.context.check_models()
        return GenerationWorker(self, progress)


class GenerationWorker:
    """Loads its models when the first image is needed, and holds them until it is closed."""

    def __init__(self, job: GenerationJob, progress: Reporter) -> None:
        """Take the job; nothing is loaded yet."""
        self._job, self._progress = job, progress
        self._batch_generator: BatchGenerator | None = None

    def close(self) -> None:
        """Release threads and models."""
        if self._batch_generator is not None:
            self._batch_generator.close()
            self._batch_generator = None

    def __call__(self, shards: Iterable[int]) -> Iterator[ShardResult]:
        """Bring shards up to date, and yield what became of each once it is committed.

        A shard's files are written while the next shard's images are generated.
        """
        with ThreadPoolExecutor(1, "writing") as writing:
            previous: Future[ShardResult] | None = None
            for shard in shards:
                commit = self._generate(shard)
                # Begun before a result is yielded: a caller that stops there has paid for this one.
                current = writing.submit(commit)
                if previous is not None:
                    yield previous.result()
                previous = current
            if previous is not None:
                yield previous.result()

    def _generate(self, shard: int) -> Callable[[], ShardResult]:
        """Generate a shard's images; returns what commits it, which another thread may call."""
        began = time.monotonic()
        context = self._job.context
        if self._batch_generator is None:
            self._batch_generator = BatchGenerator(
                context.recipe, self._progress, context.load_models
            )
        batch_generator = self._batch_generator
        loading, generating = batch_generator.loading_seconds, batch_generator.generation_seconds
        attempt = self._attempt(shard, batch_generator)
        try:
            attempt.generate()
        except (SynthVLMError, KeyboardInterrupt) as error:
            if attempt.has_new_rows:
                # Images may have been paid for, so they are committed; the next run does the rest.
                attempt.record_pending(f"not generated: {str(error) or 'interrupted'}")
                attempt.commit(shard)
            raise
        seconds = time.monotonic() - began - (batch_generator.loading_seconds - loading)
        generation_seconds = batch_generator.generation_seconds - generating

        def commit() -> ShardResult:
            attempt.commit(shard)
            return ShardResult(
                shard,
                attempt.counts,
                round(seconds, 3),
                round(generation_seconds, 3),
                details={"scorers": {name: w.values() for name, w in attempt.work.items()}},
            )

        return commit

    def _attempt(self, shard: int, batch_generator: BatchGenerator) -> ShardAttempt:
        context, job = self._job.context, self._job
        run, calibration, captions = context.run, job.calibration, job.captions[shard]
        prompts = job.prompts(shard)
        return ShardAttempt(
            context,
            with_questions(run, context.recipe, shard, prompts),
            ShardCaptions.read(run, context.recipe, shard, captions),
            # Read now: a worker that died may have left more than there was when the run began.
            PreviousShard.read(run, run.marker(STAGE, shard)),
            calibration,
            _calibrated_pairs(context, calibration, {prompt.id for prompt in prompts}),
            batch_generator,
            self._progress,
        )


def _calibrated_pairs(
    context: GenerationContext, calibration: Calibration, ids: set[str]
) -> dict[Key, Pair]:
    """The best images that calibration generated of some captions, encoded as the recipe asks."""
    if calibration.pairs is None or not ids & {id for id, _ in calibration.candidates}:
        return {}
    if calibration.encoding != encoding_fact(context.recipe.generation.image):
        return {}
    rows = context.run.iter_rows(calibration.pairs, "caption_id", ids)
    return {(row["caption_id"], row["index"]): Pair(**row) for row in rows}
