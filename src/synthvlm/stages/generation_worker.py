"""Does shards of the generate stage: images in batches, scores and files beside them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from synthvlm.engines.base import ShardResult
from synthvlm.errors import SynthVLMError
from synthvlm.stages.drawing import Drawer
from synthvlm.stages.earlier import Earlier
from synthvlm.stages.prompts import image_fingerprint, read_prompts
from synthvlm.stages.shard_attempt import ShardAttempt

if TYPE_CHECKING:
    from synthvlm.data import Candidate
    from synthvlm.progress import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.stages.candidate_plan import Key
    from synthvlm.store import Marker, RunFolder

__all__ = ["GenerationWorker"]


class GenerationWorker:
    """Loads its models when the first image is needed, and holds them over all its shards."""

    def __init__(
        self,
        run: RunFolder,
        recipe: Recipe,
        captions: Mapping[int, Marker],
        done: Mapping[int, Marker],
        calibrated: Mapping[Key, Candidate],
        thresholds: tuple[float, ...] | None,
        progress: Progress,
    ) -> None:
        """Take the run, the resolved recipe, and the markers of captions and earlier attempts."""
        self._run, self._recipe, self._progress = run, recipe, progress
        self._captions, self._done = captions, done
        self._calibrated, self._thresholds = calibrated, thresholds
        self._shared = image_fingerprint(recipe)

    def __call__(self, shards: Iterable[int]) -> Iterator[ShardResult]:
        """Bring shards up to date, and yield what became of each once it is committed.

        A shard's files are written while the next shard's images are drawn.
        """
        with (
            Drawer(self._recipe, self._progress) as drawer,
            ThreadPoolExecutor(1, "writing") as writing,
        ):
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
                        attempt.commit(self._run, shard, self._shared)
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
        return ShardAttempt(
            self._recipe,
            read_prompts(self._run, self._captions[shard], self._shared),
            Earlier.read(self._run, self._done.get(shard)),
            self._calibrated,
            self._thresholds,
            drawer,
            self._progress,
        )

    def _commit(
        self, shard: int, attempt: ShardAttempt, seconds: float, drawing_s: float
    ) -> ShardResult:
        attempt.commit(self._run, shard, self._shared)
        return ShardResult(shard, attempt.counts, round(seconds, 3), round(drawing_s, 3))
