"""Finalists of many captions in batches, for the scorers with ``only_best``."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synthvlm.stages.generation.batch_generator import BatchGenerator
    from synthvlm.stages.generation.batch_scorer import ScorerWork
    from synthvlm.stages.generation.candidate_plan import Key
    from synthvlm.stages.generation.requests import ScoredImage

__all__ = ["FinalistBatches"]


class FinalistBatches:
    """Gathers finalists until there is a batch of them; a batch is scored in the background.

    Which ones are scored together depends on the order in which they are added and on the batch
    size, never on timing. At most one batch is in work, so that pixels do not pile up.
    """

    def __init__(self, batch_generator: BatchGenerator, work: dict[str, ScorerWork]) -> None:
        """Gather none yet; what the scorers do is added to ``work``."""
        self._batch_generator, self._work = batch_generator, work
        self._waiting: list[ScoredImage] = []
        self._in_work: Future[list[ScoredImage]] | None = None
        self._keys: set[Key] = set()

    def add(self, image: ScoredImage) -> None:
        """Have an image scored, if it is not waiting for it already."""
        key = image.request.id, image.request.index
        if key not in self._keys:
            self._keys.add(key)
            self._waiting.append(image)

    def score(self, *, flush: bool = False) -> Iterator[ScoredImage]:
        """Begin to score full batches, with ``flush`` all; yields what is scored by now."""
        while self._waiting:
            size = self._batch_generator.finalists_size
            if len(self._waiting) < size and not flush:
                return
            yield from self.collect()
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            self._in_work = self._batch_generator.score_finalists(batch, self._work)
        if flush:
            yield from self.collect()

    def collect(self) -> list[ScoredImage]:
        """Wait for the batch that is in work."""
        if self._in_work is None:
            return []
        in_work, self._in_work = self._in_work, None
        images = in_work.result()
        self._keys -= {(image.request.id, image.request.index) for image in images}
        return images
