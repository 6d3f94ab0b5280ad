"""Adaptive best-of-k: the scores with which a caption is done, found on a sample of captions."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from synthvlm.data import (
    Candidate,
    Pair,
    fingerprint,
    pair_schema,
    table_of,
)
from synthvlm.engines.base import LostShard, ShardResult
from synthvlm.errors import EngineError, SynthVLMError, TooManyFailuresError
from synthvlm.estimates import Estimate
from synthvlm.stages.fingerprints import UNFINISHED, calibration_fingerprint, shard_fingerprint
from synthvlm.stages.generation.batch_generator import BatchGenerator
from synthvlm.stages.generation.candidate_plan import rank, reusable_row, row_of, table_of_rows
from synthvlm.stages.generation.pixels import encoding_fact, pair_of
from synthvlm.stages.generation.requests import Prompt
from synthvlm.stages.generation.stopping import (
    choose_stopping,
    falling_thresholds,
    held_out_gain,
)
from synthvlm.stages.summary import record_update

if TYPE_CHECKING:
    from synthvlm.engines.base import Engine, Reporter
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder, StoredFile
    from synthvlm.stages.generation.batch_scorer import ScorerWork
    from synthvlm.stages.generation.candidate_plan import Key
    from synthvlm.stages.generation.models import GenerationContext
    from synthvlm.stages.generation.requests import ScoredImage

__all__ = ["PAIRS", "STAGE", "Calibration", "Sample", "calibrate", "calibrated_fingerprint"]

STAGE = "calibrate"

#: The folder of the best images of the sample; the table of its candidates has the stage's name.
PAIRS = "calibrate-pairs"

#: Images of the sample after which those that are finished are committed, for the next run.
_COMMIT_EVERY = 64


class Sample:
    """The captions with the smallest hashes of their ids.

    Attributes:
        seen: How many captions there are.
    """

    def __init__(self, size: int) -> None:
        """Begin with none."""
        self._size, self.seen = size, 0
        self._smallest: list[tuple[int, str, Prompt]] = []

    def add(self, prompts: Iterable[Prompt]) -> None:
        """Consider captions."""
        for prompt in prompts:
            self.seen += 1
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
        sample: Ids of the captions on which thresholds were found; all their candidates count.
        candidates: The scored candidates of the sample.
        pairs: Name of the file of their best images, encoded as ``encoding`` says, or None.
        encoding: See ``pixels.encoding_fact``.
    """

    thresholds: tuple[float, ...] | None = None
    sample: frozenset[str] = frozenset()
    candidates: Mapping[Key, Candidate] = field(default_factory=dict)
    pairs: str | None = None
    encoding: object = None

    @classmethod
    def stored(
        cls, run: RunFolder, marker: Marker | None, thresholds: tuple[float, ...] | None
    ) -> Calibration:
        """What a calibration left in the run folder; its images count whatever they were for."""
        if marker is None:
            return cls(thresholds)
        name = marker.file(STAGE)
        rows = [] if name is None else run.read_table(name).to_pylist()
        candidates = [Candidate.of_row(row) for row in rows]
        return cls(
            thresholds,
            frozenset() if thresholds is None else sample_of(marker),
            {(c.caption_id, c.index): c for c in candidates},
            marker.file(PAIRS),
            marker.facts.get("encoding"),
        )


def sample_of(marker: Marker) -> frozenset[str]:
    """Ids of the captions of a calibration; none where an earlier version made it."""
    return frozenset(marker.facts.get("sample", ()))


def calibrated_fingerprint(
    recipe: Recipe, shared: str, calibration: Marker | None, prompts: Sequence[Prompt]
) -> str:
    """As ``shard_fingerprint``, given the marker of the calibration.

    Args:
        recipe: The recipe.
        shared: ``image_fingerprint``.
        calibration: The marker of this stage, current or not.
        prompts: The shard's captions.
    """
    adaptive, count = recipe.generation.adaptive, recipe.generation.candidates
    thresholds, sample = None, frozenset[str]()
    if adaptive is not None and adaptive.threshold is not None:
        thresholds = falling_thresholds(adaptive.threshold, adaptive.decay, count)
    elif (
        adaptive is not None
        and calibration is not None
        and calibration.fingerprint == calibration_fingerprint(recipe, adaptive, shared)
    ):
        facts, sample = calibration.facts, sample_of(calibration)
        thresholds = falling_thresholds(facts["threshold"], facts["decay"], count)
    return shard_fingerprint(recipe, shared, thresholds, prompts, sample)


def calibrate(
    context: GenerationContext,
    engine: Engine,
    read_sample: Callable[[int], tuple[Sample, Mapping[Key, Candidate]]],
    progress: Progress,
) -> Calibration:
    """Find the scores with which a caption is done, where the recipe asks for it.

    Thresholds are fixed once in a run: more captions do not change them. Where the sample would be
    all captions, there is nothing to gain, and every caption gets all its candidates.

    Args:
        context: What all work of generation shares.
        engine: Where the sample is generated.
        read_sample: Reads the captions to calibrate on, given how many, and what there is of their
            candidates; called where they are needed.
        progress: Shows candidates done.

    Raises:
        EngineError: The workers died.
        ModelError: A model cannot be loaded.
        TooManyFailuresError: More candidates failed than ``run.max_failed_share`` allows.
    """
    run, recipe = context.run, context.recipe
    adaptive, count = recipe.generation.adaptive, recipe.generation.candidates
    marker = run.marker(STAGE, 0)
    if adaptive is None:
        return Calibration.stored(run, marker, None)
    if adaptive.threshold is not None:
        thresholds = falling_thresholds(adaptive.threshold, adaptive.decay, count)
        return replace(Calibration.stored(run, marker, None), thresholds=thresholds)
    expected = calibration_fingerprint(recipe, adaptive, context.image_fingerprint)
    if marker is None or marker.fingerprint != expected:
        sample, known = read_sample(adaptive.sample)
        if sample.seen <= adaptive.sample:
            progress.note(
                f"note: adaptive best-of-k is off, for it cannot save images here: its calibration "
                f"generates all candidates of {adaptive.sample} captions, and there are "
                f"{sample.seen} (`--set generation.adaptive.sample=N` takes fewer, 8 or more)"
            )
            return Calibration.stored(run, marker, None)
        job = _Job(context, sample.prompts(), known, expected)
        marker = _calibrate_on(job, engine, progress)
    run.sweep(STAGE, [STAGE, PAIRS], {0: marker})
    facts = marker.facts
    thresholds = falling_thresholds(facts["threshold"], facts["decay"], count)
    return Calibration.stored(run, marker, thresholds)


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
    held_out = Estimate(*facts["gain_held_out"])
    interval = ""
    if held_out.low is not None and held_out.high is not None:
        interval = f" (95% interval {held_out.low:.0%} to {held_out.high:.0%})"
    progress.finish(
        STAGE,
        f"captions are done at score {facts['threshold']:.4f}, less {facts['decay']:.4f} for "
        f"each candidate more: on {len(job.prompts)} captions {facts['images_per_caption']:.2f} "
        f"of {count} images each keep {facts['gain_kept']:.0%} of the gain; on captions held out "
        f"{held_out.value:.0%}{interval}",
    )
    return marker


@dataclass(frozen=True, slots=True)
class _Job:
    """What the worker needs to know; it is sent to where the worker is."""

    context: GenerationContext
    prompts: Sequence[Prompt]
    known: Mapping[Key, Candidate]
    fingerprint: str

    def __call__(self, progress: Reporter) -> _Worker:
        """Make the worker.

        Raises:
            ModelError: The models here are not those of the driver.
        """
        self.context.check_models()
        return _Worker(self, progress)


class _Worker:
    """Generates all candidates of the sample; commits their scores, best images and thresholds."""

    def __init__(self, job: _Job, progress: Reporter) -> None:
        self._context, self._progress = job.context, progress
        self._run, self._recipe = job.context.run, job.context.recipe
        self._prompts = {prompt.id: prompt for prompt in job.prompts}
        self._known, self._fingerprint = job.known, job.fingerprint
        self._encoding = encoding_fact(self._recipe.generation.image)
        self._rows: dict[Key, Candidate] = {}
        self._pairs: dict[Key, Pair] = {}
        self._best: dict[str, ScoredImage] = {}
        self._work: dict[str, ScorerWork] = {}

    def close(self) -> None:
        """Nothing is held between shards."""

    def __call__(self, shards: Iterable[int]) -> Iterator[ShardResult]:
        for shard in shards:
            began = time.monotonic()
            self._read_previous(shard)
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
                details={"scorers": {name: w.values() for name, w in self._work.items()}},
            )

    def _read_previous(self, shard: int) -> None:
        """Read what an earlier calibration left of the sample, and generated shards."""
        stored = Calibration.stored(self._run, self._run.marker(STAGE, shard), None)
        for key, row in [*stored.candidates.items(), *self._known.items()]:
            prompt = self._prompts.get(row.caption_id)
            if prompt is None or row.fingerprint != prompt.fingerprint:
                continue
            reusable = reusable_row(row, self._recipe)
            if reusable is not None and row.index < self._recipe.generation.candidates:
                self._rows.setdefault(key, reusable)
        if stored.pairs is not None and stored.encoding == self._encoding:
            for values in self._run.read_table(stored.pairs).to_pylist():
                pair = Pair(**values)
                if (pair.caption_id, pair.index) in self._rows:
                    self._pairs[pair.caption_id, pair.index] = pair

    def _generate(self, shard: int, batch_generator: BatchGenerator) -> int:
        """Generate missing candidates; returns how many there were."""
        requests = [
            prompt.request(index, self._recipe.seed)
            for id, prompt in self._prompts.items()
            for index in range(self._recipe.generation.candidates)
            if (id, index) not in self._rows
        ]
        start = 0
        while start < len(requests):
            batch = requests[start : start + batch_generator.sizer.size]
            for image in batch_generator.generate(batch, self._work).result():
                self._record(image)
            self._encode_best(but=batch[-1].id)
            if start // _COMMIT_EVERY < (start + len(batch)) // _COMMIT_EVERY:
                self._commit_unfinished(shard)
            start += len(batch)
            self._progress.advance(len(batch))
        return len(requests)

    def _record(self, image: ScoredImage) -> None:
        id = image.request.id
        row = row_of(image, self._prompts[id].fingerprint, self._recipe)
        self._rows[id, row.index] = row
        best = self._best.get(id)
        if row.status == "ok" and (
            best is None or rank(row) < rank(self._rows[id, best.request.index])
        ):
            self._best[id] = image

    def _encode_best(self, but: str | None = None) -> None:
        """Encode the best images of captions that are complete, which is all but one."""
        for id in self._best.keys() - {but}:
            image = self._best.pop(id)
            self._pairs[id, image.request.index] = pair_of(image, self._recipe.generation.image)

    def _commit_unfinished(self, shard: int) -> None:
        """Commit finished candidates for the next run, not as a calibration."""
        if self._rows:
            files = self._files(shard, list(self._rows.values()))
            facts = {"encoding": self._encoding}
            self._run.commit(STAGE, shard, UNFINISHED + self._fingerprint, files, facts)

    def _files(self, shard: int, rows: list[Candidate]) -> list[StoredFile]:
        """Write the candidates, and the best image of each caption."""
        self._encode_best()
        best: dict[str, Candidate] = {}
        for row in rows:
            if row.status == "ok" and (
                row.caption_id not in best or rank(row) < rank(best[row.caption_id])
            ):
                best[row.caption_id] = row
        self._pairs = {
            key: self._pairs[key]
            for key in ((row.caption_id, row.index) for row in best.values())
            if key in self._pairs
        }
        tables = {STAGE: table_of_rows(rows, self._recipe)}
        if self._pairs:
            tables[PAIRS] = table_of(list(self._pairs.values()), pair_schema())
        return [self._run.write_table(name, shard, table) for name, table in tables.items()]

    def _commit(self, shard: int) -> None:
        adaptive, count = self._recipe.generation.adaptive, self._recipe.generation.candidates
        assert adaptive is not None
        failed = [row for row in self._rows.values() if row.status == "failed"]
        allowed = math.ceil(self._recipe.run.max_failed_share * len(self._rows))
        rows = [self._rows[id, index] for id in self._prompts for index in range(count)]
        if len(failed) > allowed or all(row.score is None for row in rows):
            self._commit_unfinished(shard)
            share = f"run.max_failed_share ({self._recipe.run.max_failed_share})"
            what = f"{len(failed)} of {len(rows)} candidates failed, more than {share} allows"
            if len(failed) <= allowed:
                what = f"none of {len(rows)} candidates can win"
            raise TooManyFailuresError(
                f"calibrate: {what}; the first: {(failed or rows)[0].problem}"
            )
        scores = np.array([np.nan if r.score is None else r.score for r in rows])
        scores = scores.reshape(-1, count)
        stopping = choose_stopping(scores, adaptive.keep_gain)
        held_out = held_out_gain(scores, adaptive.keep_gain)
        facts = {
            "threshold": stopping.threshold,
            "decay": stopping.decay,
            "images_per_caption": round(stopping.images, 3),
            "gain_kept": round(stopping.gain, 4),
            "gain_held_out": [held_out.value, held_out.low, held_out.high],
            "captions": len(self._prompts),
            "sample": list(self._prompts),
            "encoding": self._encoding,
        }
        self._run.commit(STAGE, shard, self._fingerprint, self._files(shard, rows), facts)
