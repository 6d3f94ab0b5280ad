"""Adaptive best-of-k: the scores with which a caption is done, found on a sample of captions."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from synthvlm.data import Candidate, candidate_seed, candidate_table, fingerprint
from synthvlm.engines.base import LostShard, ShardResult
from synthvlm.errors import EngineError, SynthVLMError, TooManyFailuresError
from synthvlm.stages.fingerprints import calibration_fingerprint
from synthvlm.stages.generation.batch_generator import BatchGenerator
from synthvlm.stages.generation.candidate_plan import reusable_row, row_of
from synthvlm.stages.generation.prompts import Prompt
from synthvlm.stages.generation.requests import GenerationRequest
from synthvlm.stages.summary import record_update

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.engines.base import Engine, Reporter
    from synthvlm.progress.display import Progress
    from synthvlm.run_folder.folder import Marker
    from synthvlm.stages.generation.candidate_plan import Key
    from synthvlm.stages.generation.models import GenerationContext

__all__ = [
    "STAGE",
    "Calibration",
    "Sample",
    "Stopping",
    "calibrate",
    "choose_stopping",
    "falling_thresholds",
]

STAGE = "calibrate"

#: Images of the sample after which those that are finished are committed, for the next run.
_COMMIT_EVERY = 64

#: The decays that are tried, in standard deviations of the scores of a caption's candidates.
_DECAYS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)


class Sample:
    """The captions with the smallest hashes of their ids."""

    def __init__(self, size: int) -> None:
        """Begin with none."""
        self._size = size
        self._smallest: list[tuple[int, str, Prompt]] = []

    def add(self, prompts: Iterable[Prompt]) -> None:
        """Consider captions."""
        for prompt in prompts:
            key = -int(fingerprint("calibrate", prompt.id)[:12], 16)
            if len(self._smallest) < self._size:
                heapq.heappush(self._smallest, (key, prompt.id, prompt))
            elif key > self._smallest[0][0]:
                heapq.heapreplace(self._smallest, (key, prompt.id, prompt))

    def prompts(self) -> list[Prompt]:
        """The chosen captions, by id."""
        return sorted((prompt for _, _, prompt in self._smallest), key=lambda p: p.id)


@dataclass(frozen=True, slots=True)
class Calibration:
    """When the captions of a run are done.

    Attributes:
        thresholds: For each candidate's number, 0 .. k - 1, the best score so far with which a
            caption is done; None without adaptive best-of-k: all candidates are generated.
        candidates: The scored candidates of the sample on which thresholds were found.
    """

    thresholds: tuple[float, ...] | None = None
    candidates: Mapping[Key, Candidate] = field(default_factory=dict)


def calibrate(
    context: GenerationContext,
    engine: Engine,
    read_sample: Callable[[int], list[Prompt]],
    progress: Progress,
) -> Calibration:
    """Find the scores with which a caption is done, where the recipe asks for it.

    Thresholds are fixed once in a run: more captions do not change them.

    Args:
        context: What all work of generation shares.
        engine: Where the sample is generated.
        read_sample: Reads the captions to calibrate on, given how many; called where they are
            needed.
        progress: Shows candidates done.

    Raises:
        EngineError: The workers died.
        ModelError: A model cannot be loaded.
        TooManyFailuresError: More candidates failed than ``run.max_failed_share`` allows.
    """
    run, recipe = context.run, context.recipe
    adaptive, count = recipe.generation.adaptive, recipe.generation.candidates
    if adaptive is None:
        return Calibration()
    if adaptive.threshold is not None:
        return Calibration(falling_thresholds(adaptive.threshold, adaptive.decay, count))
    expected = calibration_fingerprint(recipe, adaptive, context.image_fingerprint)
    marker = run.marker(STAGE, 0)
    if marker is None or marker.fingerprint != expected:
        prompts = read_sample(adaptive.sample)
        if not prompts:
            return Calibration()
        marker = _calibrate_on(_Job(context, prompts, expected), engine, progress)
    run.sweep(STAGE, [STAGE], {0: marker})
    name = marker.file(STAGE)
    rows = [] if name is None else run.read_table(name).to_pylist()
    candidates = [Candidate.of_row(row) for row in rows]
    return Calibration(
        falling_thresholds(marker.facts["threshold"], marker.facts["decay"], count),
        {(c.caption_id, c.index): c for c in candidates},
    )


def _calibrate_on(job: _Job, engine: Engine, progress: Progress) -> Marker:
    """Have a worker generate the sample and commit the calibration, as the stage's shard 0."""
    run, count = job.context.run, job.context.recipe.generation.candidates
    progress.start(STAGE, len(job.prompts) * count, "candidates")
    with closing(engine.run(job, [0], progress)) as updates:
        for update in updates:
            record_update(run, STAGE, update)
            if isinstance(update, LostShard):
                raise EngineError(
                    f"{STAGE}: {update.deaths} workers died of it; the last: "
                    f"{update.problem}; fix the cause and run again, finished images "
                    f"are kept"
                )
    marker = run.marker(STAGE, 0)
    assert marker is not None
    facts = marker.facts
    progress.finish(
        STAGE,
        f"captions are done at score {facts['threshold']:.4f}, less {facts['decay']:.4f} for "
        f"each candidate more: on {len(job.prompts)} captions {facts['images_per_caption']:.2f} "
        f"of {count} images each keep {facts['gain_kept']:.0%} of the gain",
    )
    return marker


@dataclass(frozen=True, slots=True)
class Stopping:
    """When a caption is done, and what that costs and gains on the captions it was found on.

    Attributes:
        threshold: Best score so far with which a caption is done at its first candidate.
        decay: How much lower that is for every further one.
        images: Images per caption.
        gain: Share of what best-of-k gains in mean score over one candidate.
    """

    threshold: float
    decay: float
    images: float
    gain: float


def choose_stopping(scores: np.ndarray, keep_gain: float) -> Stopping:
    """The thresholds that need the fewest images to keep a share of best-of-k's gain.

    They fall from candidate to candidate: low scores mean that a caption is hard, and that further
    candidates gain little. A caption's candidates could have come in any order, so all
    rotations of their order count.

    Args:
        scores: float64, shape (captions, k), in the order of generation; NaN for a failure.
        keep_gain: Share (above 0, at most 1) of the gain in mean score.

    Raises:
        ValueError: No candidate has a score.
    """
    usable = scores[~np.isnan(scores).all(axis=1)]
    if not len(usable):
        raise ValueError("no candidate has a score")
    count = usable.shape[1]
    # A failure counts as the worst score there is: it never wins, and stops nothing.
    filled = np.where(np.isnan(usable), np.nanmin(usable), usable)
    rotations = np.concatenate([np.roll(filled, turn, axis=1) for turn in range(count)])
    first, best = float(filled.mean()), float(filled.max(axis=1).mean())
    choices = []
    for share in _DECAYS:
        decay = share * float(filled.std(axis=1).mean())
        values = np.unique(filled)
        levels = np.unique(np.concatenate([values + decay * index for index in range(count)]))
        low, high = 0, len(levels) - 1
        while low < high:  # bisection: the gain grows with the threshold
            middle = (low + high) // 2
            score, _ = _outcome(rotations, levels[middle], decay)
            if score >= first + keep_gain * (best - first):
                high = middle
            else:
                low = middle + 1
        score, images = _outcome(rotations, levels[low], decay)
        gain = (score - first) / (best - first) if best > first else 1.0
        choices.append(Stopping(float(levels[low]), decay, images, gain))
    return min(choices, key=lambda stopping: stopping.images)


def _outcome(scores: np.ndarray, threshold: float, decay: float) -> tuple[float, float]:
    """Mean score of the winners, and images per caption."""
    count = scores.shape[1]
    so_far = np.maximum.accumulate(scores, axis=1)
    reached = so_far >= np.array(falling_thresholds(threshold, decay, count))
    stops = np.where(reached.any(axis=1), reached.argmax(axis=1), count - 1)
    return float(so_far[np.arange(len(scores)), stops].mean()), float((stops + 1).mean())


def falling_thresholds(threshold: float, decay: float, count: int) -> tuple[float, ...]:
    """The threshold of each candidate's number, 0 .. count - 1: ``threshold - decay * number``."""
    return tuple(threshold - decay * index for index in range(count))


@dataclass(frozen=True, slots=True)
class _Job:
    """What the worker needs to know; it is sent to where the worker is."""

    context: GenerationContext
    prompts: Sequence[Prompt]
    fingerprint: str

    def __call__(self, progress: Reporter) -> _Worker:
        """Make the worker.

        Raises:
            ModelError: The models here are not those of the driver.
        """
        self.context.check_models()
        return _Worker(self, progress)


class _Worker:
    """Generates all candidates of the sample, and commits their scores and the thresholds."""

    def __init__(self, job: _Job, progress: Reporter) -> None:
        self._context, self._progress = job.context, progress
        self._run, self._recipe = job.context.run, job.context.recipe
        self._prompts = {prompt.id: prompt for prompt in job.prompts}
        self._fingerprint = job.fingerprint
        self._rows: dict[Key, Candidate] = {}

    def close(self) -> None:
        """Nothing is held between shards."""

    def __call__(self, shards: Iterable[int]) -> Iterator[ShardResult]:
        for shard in shards:
            began = time.monotonic()
            self._rows = self._previous_rows(shard)
            self._progress.advance(len(self._rows))
            batch_generator = BatchGenerator(
                self._recipe, self._progress, self._context.load_models
            )
            with closing(batch_generator):
                try:
                    generated = self._generate(shard, batch_generator)
                except (SynthVLMError, KeyboardInterrupt):
                    self._commit_unfinished(shard)
                    raise
            self._commit(shard)
            yield ShardResult(
                shard,
                {"generated": generated},
                round(time.monotonic() - began, 3),
                round(batch_generator.generation_seconds, 3),
            )

    def _previous_rows(self, shard: int) -> dict[Key, Candidate]:
        """What a calibration that was stopped, or had other settings, left of the sample."""
        marker = self._run.marker(STAGE, shard)
        name = None if marker is None else marker.file(STAGE)
        rows = {}
        for values in [] if name is None else self._run.read_table(name).to_pylist():
            row = Candidate.of_row(values)
            prompt = self._prompts.get(row.caption_id)
            if prompt is None or row.fingerprint != prompt.fingerprint:
                continue
            reusable = reusable_row(row, self._recipe)
            if reusable is not None and row.index < self._recipe.generation.candidates:
                rows[row.caption_id, row.index] = reusable
        return rows

    def _generate(self, shard: int, batch_generator: BatchGenerator) -> int:
        """Generate missing candidates; returns how many there were."""
        requests = [
            GenerationRequest(id, index, prompt.text, candidate_seed(self._recipe.seed, id, index))
            for id, prompt in self._prompts.items()
            for index in range(self._recipe.generation.candidates)
            if (id, index) not in self._rows
        ]
        start = 0
        while start < len(requests):
            batch = requests[start : start + batch_generator.sizer.size]
            for image in batch_generator.generate(batch).result():
                fingerprint = self._prompts[image.request.id].fingerprint
                row = row_of(image, fingerprint, self._recipe)
                self._rows[row.caption_id, row.index] = row
            if start // _COMMIT_EVERY < (start + len(batch)) // _COMMIT_EVERY:
                self._commit_unfinished(shard)
            start += len(batch)
            self._progress.advance(len(batch))
        return len(requests)

    def _commit_unfinished(self, shard: int) -> None:
        """Commit finished candidates for the next run, not as a calibration."""
        if self._rows:
            file = self._run.write_table(STAGE, shard, self._table(list(self._rows.values())))
            self._run.commit(STAGE, shard, f"unfinished {self._fingerprint}", [file])

    def _table(self, rows: list[Candidate]) -> pa.Table:
        return candidate_table(rows, list(self._recipe.scorers))

    def _commit(self, shard: int) -> None:
        adaptive, count = self._recipe.generation.adaptive, self._recipe.generation.candidates
        assert adaptive is not None
        failed = [row for row in self._rows.values() if row.status == "failed"]
        allowed = math.ceil(self._recipe.run.max_failed_share * len(self._rows))
        rows = [self._rows[id, index] for id in self._prompts for index in range(count)]
        if len(failed) > allowed or all(row.score is None for row in rows):
            self._commit_unfinished(shard)
            raise TooManyFailuresError(
                f"calibrate: {len(failed)} of {len(rows)} candidates failed, more than "
                f"run.max_failed_share ({self._recipe.run.max_failed_share}) allows"
                + (f"; the first: {failed[0].problem}" if failed else "; none has a score")
            )
        scores = np.array([np.nan if r.score is None else r.score for r in rows])
        stopping = choose_stopping(scores.reshape(-1, count), adaptive.keep_gain)
        file = self._run.write_table(STAGE, shard, self._table(rows))
        facts = {
            "threshold": stopping.threshold,
            "decay": stopping.decay,
            "images_per_caption": round(stopping.images, 3),
            "gain_kept": round(stopping.gain, 4),
            "captions": len(self._prompts),
        }
        self._run.commit(STAGE, shard, self._fingerprint, [file], facts)
