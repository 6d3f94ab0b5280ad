"""Does shards of the generate stage: images in batches, scores and files beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.engines.base import Reporter, ShardResult
from synthvlm.errors import ModelError, SynthVLMError
from synthvlm.stages.generation.batch_generator import Drawer
from synthvlm.stages.generation.previous_shard import Earlier
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
        calibrated: Candidates that calibration drew, without their pixels.
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
        self._drawer: Drawer | None = None

    def close(self) -> None:
        """Let go of threads and models."""
        if self._drawer is not None:
            self._drawer.close()
            self._drawer = None

    def __call__(self, shards: Iterable[int]) -> Iterator[ShardResult]:
        """Bring shards up to date, and yield what became of each once it is committed.

        A shard's files are written while the next shard's images are drawn.
        """
        if self._drawer is None:
            self._drawer = Drawer(self._job.recipe, self._progress, self._job.load_models)
        drawer = self._drawer
        with ThreadPoolExecutor(1, "writing") as writing:
            writes: Future[ShardResult] | None = None
            for shard in shards:
                began, loaded = time.monotonic(), drawer.loading_s
                drawn = drawer.drawing_s
                attempt = self._attempt(shard, drawer)
                try:
                    attempt.draw()
                except (SynthVLMError, KeyboardInterrupt) as error:
                    if attempt.counts["generated"]:
                        # What was drawn may have been paid for; the rest is tried again.
                        attempt.give_up(f"not drawn: {error or 'interrupted'}")
                        attempt.commit(self._job.run, shard, self._job.shared)
                    raise
                seconds = time.monotonic() - began - (drawer.loading_s - loaded)
                drawing_s = drawer.drawing_s - drawn
                # Before anything is given back: whoever stops here has drawn it.
                before = writes
                writes = writing.submit(self._commit, shard, attempt, seconds, drawing_s)
                if before is not None:
                    yield before.result()
            if writes is not None:
                yield writes.result()

    def _attempt(self, shard: int, drawer: Drawer) -> ShardAttempt:
        job = self._job
        return ShardAttempt(
            job.recipe,
            read_prompts(job.run, job.captions[shard], job.shared),
            # Read now: a worker that died may have left more than there was when the run began.
            Earlier.read(job.run, job.run.marker(STAGE, shard)),
            job.calibrated,
            job.thresholds,
            drawer,
            self._progress,
        )

    def _commit(
        self, shard: int, attempt: ShardAttempt, seconds: float, drawing_s: float
    ) -> ShardResult:
        attempt.commit(self._job.run, shard, self._job.shared)
        return ShardResult(shard, attempt.counts, round(seconds, 3), round(drawing_s, 3))
