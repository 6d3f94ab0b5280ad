"""Does shards of the generate stage: images in batches, scores and files beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.engines.base import Reporter, ShardResult
from synthvlm.errors import ModelError, SynthVLMError
from synthvlm.stages.generation.batch_generator import BatchGenerator
from synthvlm.stages.generation.previous_shard import PreviousShard
from synthvlm.stages.generation.prompts import STAGE, image_fingerprint, read_prompts
from synthvlm.stages.generation.shard_attempt import ShardAttempt

if TYPE_CHECKING:
    from synthvlm.data import Candidate
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder
    from synthvlm.stages.generation.candidate_plan import Key
    from synthvlm.stages.generation.models import Models

__all__ = ["GenerationJob", "GenerationWorker"]


@dataclass(frozen=True, slots=True)
class GenerationJob:
    """What a generation worker needs to know; it is sent to where the worker is.

    Attributes:
        run: The run folder.
        recipe: With dtype and threads resolved.
        load_models: Loads what the recipe names.
        shared: What every image depends on (``image_fingerprint``), where the run is driven.
        captions: The markers of the curate stage.
        calibrated: Candidates that calibration generated, without their pixels.
        thresholds: Those of adaptive best-of-k, if it is on.
    """

    run: RunFolder
    recipe: Recipe
    load_models: Callable[[Recipe], Models]
    shared: str
    captions: Mapping[int, Marker]
    calibrated: Mapping[Key, Candidate]
    thresholds: tuple[float, ...] | None

    def __call__(self, progress: Reporter) -> GenerationWorker:
        """Make the worker.

        Raises:
            ModelError: The models here are not those of the driver.
        """
        if image_fingerprint(self.recipe) != self.shared:
            raise ModelError(
                "a worker's models are not those that the run was started with: the folders that "
                "the recipe names must hold the same files on every machine"
            )
        return GenerationWorker(self, progress)


class GenerationWorker:
    """Loads its models when the first image is needed, and holds them until it is closed."""

    def __init__(self, job: GenerationJob, progress: Reporter) -> None:
        """Take the job; nothing is loaded yet."""
        self._job, self._progress = job, progress
        self._batch_generator: BatchGenerator | None = None

    def close(self) -> None:
        """Let go of threads and models."""
        if self._batch_generator is not None:
            self._batch_generator.close()
            self._batch_generator = None

    def __call__(self, shards: Iterable[int]) -> Iterator[ShardResult]:
        """Bring shards up to date, and yield what became of each once it is committed.

        A shard's files are written while the next shard's images are generated.
        """
        if self._batch_generator is None:
            self._batch_generator = BatchGenerator(
                self._job.recipe, self._progress, self._job.load_models
            )
        batch_generator = self._batch_generator
        with ThreadPoolExecutor(1, "writing") as writing:
            writes: Future[ShardResult] | None = None
            for shard in shards:
                began, loaded = time.monotonic(), batch_generator.loading_s
                generated = batch_generator.generation_seconds
                attempt = self._attempt(shard, batch_generator)
                try:
                    attempt.generate()
                except (SynthVLMError, KeyboardInterrupt) as error:
                    if attempt.counts["generated"]:
                        # What was generated may have been paid for; the rest is tried again.
                        attempt.record_unfinished(f"not generated: {error or 'interrupted'}")
                        attempt.commit(self._job.run, shard, self._job.shared)
                    raise
                seconds = time.monotonic() - began - (batch_generator.loading_s - loaded)
                generation_seconds = batch_generator.generation_seconds - generated
                # Before anything is given back: whoever stops here has generated it.
                before = writes
                writes = writing.submit(self._commit, shard, attempt, seconds, generation_seconds)
                if before is not None:
                    yield before.result()
            if writes is not None:
                yield writes.result()

    def _attempt(self, shard: int, batch_generator: BatchGenerator) -> ShardAttempt:
        job = self._job
        return ShardAttempt(
            job.recipe,
            read_prompts(job.run, job.captions[shard], job.shared),
            # Read now: a worker that died may have left more than there was when the run began.
            PreviousShard.read(job.run, job.run.marker(STAGE, shard)),
            job.calibrated,
            job.thresholds,
            batch_generator,
            self._progress,
        )

    def _commit(
        self, shard: int, attempt: ShardAttempt, seconds: float, generation_seconds: float
    ) -> ShardResult:
        attempt.commit(self._job.run, shard, self._job.shared)
        return ShardResult(shard, attempt.counts, round(seconds, 3), round(generation_seconds, 3))
