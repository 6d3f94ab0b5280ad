"""Images of a batch, scored and checked on a thread of its own, beside the generator."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from synthvlm.components.contract import contract
from synthvlm.errors import first_line
from synthvlm.models.devices import resolve_device
from synthvlm.scorers.base import QuestionScorer, Scores, check_scores
from synthvlm.stages.generation.image_scores import (
    embedding_scores,
    is_truncated,
    problem_of,
    remarks_of,
    vector_of,
)
from synthvlm.stages.generation.requests import GenerationRequest, ScoredImage

if TYPE_CHECKING:
    import numpy as np
    import torch

    from synthvlm.generators.base import GeneratedImages
    from synthvlm.recipe import Recipe
    from synthvlm.scorers.base import Scorer
    from synthvlm.stages.generation.batch_size import BatchSizer
    from synthvlm.stages.generation.models import Models

__all__ = ["BatchScorer", "GeneratedPart", "ScorerWork"]

_MOST_ENCODERS = 8


@dataclass(frozen=True, slots=True)
class GeneratedPart:
    """A part of a batch: its images, or why there are none.

    On a GPU also an event that is set once the images are there.
    """

    requests: list[GenerationRequest]
    images: GeneratedImages | str
    ready: Any = None


@dataclass(slots=True)
class ScorerWork:
    """What a scorer did.

    Attributes:
        device: Where it works.
        batches: Calls; of a scorer that works image by image, batches in which it was called.
        images: Images scored.
        seconds: In its calls, added up over threads.
    """

    device: str
    batches: int = 0
    images: int = 0
    seconds: float = 0.0

    def values(self) -> dict[str, object]:
        """Plain values, for events."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


class BatchScorer:
    """Scores batches in the order in which they come; it must be closed.

    Attributes:
        most_finalists: So many fit into memory at a time; None where no limit was met.
    """

    def __init__(self, recipe: Recipe, models: Models, sizer: BatchSizer) -> None:
        """Start the threads; ``sizer`` is told where memory does not suffice for a batch."""
        self._recipe, self._models, self._sizer = recipe, models, sizer
        scorers, first = models.scorers, recipe.first_scorers
        self._first = {name: scorer for name, scorer in scorers.items() if name in first}
        self._last = {name: scorer for name, scorer in scorers.items() if name not in first}
        self._device = resolve_device(recipe.run.device)
        self.most_finalists: int | None = None
        self._stream: Any = None
        self._scoring = ThreadPoolExecutor(1, "scoring", self._prepare_thread)
        workers = min(_MOST_ENCODERS, max(1, (os.cpu_count() or 2) // 2))
        self._encoding = ThreadPoolExecutor(workers, "encoding")

    def close(self) -> None:
        """Let the threads finish what they have begun, and drop the rest."""
        self._scoring.shutdown(cancel_futures=True)
        self._encoding.shutdown(cancel_futures=True)

    def in_background(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Do CPU work, such as encoding an image, on a thread of its own."""
        return self._encoding.submit(work, *arguments)

    def score(
        self, generated: Sequence[GeneratedPart], work: dict[str, ScorerWork]
    ) -> Future[list[ScoredImage]]:
        """Score the parts of a batch by the scorers that see all.

        Args:
            generated: The parts; what failed to be generated passes through.
            work: What the scorers do is added to it.
        """
        return self._scoring.submit(self._score, generated, work)

    def score_finalists(
        self, images: Sequence[ScoredImage], work: dict[str, ScorerWork]
    ) -> Future[list[ScoredImage]]:
        """Score images, which have pixels, by the scorers with ``only_best``."""
        return self._scoring.submit(self._score_finalists, images, work)

    def _prepare_thread(self) -> None:
        import torch

        # The number is each thread's own, and results depend on it.
        if isinstance(self._recipe.run.threads, int):
            torch.set_num_threads(self._recipe.run.threads)

    def _score(
        self, generated: Sequence[GeneratedPart], work: dict[str, ScorerWork]
    ) -> list[ScoredImage]:
        is_reproducible = self._models.generator.reproducible
        scored: list[ScoredImage] = []
        for part in generated:
            if isinstance(part.images, str):
                scored += [ScoredImage(request, part.images) for request in part.requests]
                continue
            with self._scoring_stream(part):
                score = partial(self._score_images, part.requests, part.images, work)
                images = self._fitting(score, part.requests, self._sizer.shrink)
            scored += [replace(image, reproducible=is_reproducible) for image in images]
        return scored

    def _score_finalists(
        self, images: Sequence[ScoredImage], work: dict[str, ScorerWork]
    ) -> list[ScoredImage]:
        scored: list[ScoredImage] = []
        for _, group in groupby(images, lambda image: _pixels(image).shape):
            part = list(group)
            with self._own_stream():
                score = partial(self._score_again, part, work)
                requests = [image.request for image in part]
                scored += self._fitting(score, requests, self._limit_finalists)
        return scored

    def _limit_finalists(self, images: int) -> None:
        self.most_finalists = max(1, images // 2)

    def _fitting(
        self,
        score: Callable[[range], list[ScoredImage]],
        requests: Sequence[GenerationRequest],
        shrink: Callable[[int], object],
        rows: range | None = None,
    ) -> list[ScoredImage]:
        """The images of some rows of a batch, in smaller parts where memory does not suffice."""
        from synthvlm.errors import is_out_of_memory
        from synthvlm.models.devices import empty_caches

        rows = range(len(requests)) if rows is None else rows
        try:
            return score(rows)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            problem = f"there is no memory to score it: {first_line(error)}"
        empty_caches()
        if len(rows) == 1:
            return [ScoredImage(requests[rows[0]], problem)]
        shrink(len(rows))
        half = len(rows) // 2
        first = self._fitting(score, requests, shrink, rows[:half])
        return first + self._fitting(score, requests, shrink, rows[half:])

    def _scoring_stream(self, part: GeneratedPart) -> AbstractContextManager[Any]:
        """On a GPU a stream of its own, which would otherwise wait for the next batch."""
        if part.ready is None:
            return nullcontext()
        import torch

        if self._stream is None:
            assert not isinstance(part.images, str)
            device = part.images.pixels.device
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._stream.wait_event(part.ready)
        return self._own_stream()

    def _own_stream(self) -> AbstractContextManager[Any]:
        if self._stream is None:
            return nullcontext()
        import torch

        stream: AbstractContextManager[Any] = torch.cuda.stream(self._stream)
        return stream

    def _score_images(
        self,
        requests: list[GenerationRequest],
        images: GeneratedImages,
        work: dict[str, ScorerWork],
        rows: range,
    ) -> list[ScoredImage]:
        """The images of some rows of a batch."""
        import numpy as np

        from synthvlm.scorers.image_checks import blank_images

        scored_requests = [requests[n] for n in rows]
        pixels_in = images.pixels[rows.start : rows.stop]
        on_host = pixels_in.cpu()
        scores = self._scores(self._first, pixels_in, on_host, scored_requests, work)
        pixels = np.ascontiguousarray(on_host.permute(0, 2, 3, 1).numpy())
        truncated = images.truncated or (False,) * len(requests)
        blank = blank_images(pixels_in)
        unsafe = self._unsafe(pixels_in)
        vectors = embedding_scores(scores)
        scored = []
        for n, row in enumerate(rows):
            values = {name: float(batch.values[n]) for name, batch in scores.items()}
            own = images.unsafe[row] if images.unsafe else None
            unsafe[n] = unsafe[n] or own
            # What a generator's own check rejected may be black: that is no failure.
            problem = images.problems[row] or (blank[n] if own is None else None)
            problem = problem or problem_of(scores, n, values, self._recipe.first_scorers)
            if problem is not None:
                scored.append(ScoredImage(requests[row], problem))
                continue
            scored.append(
                ScoredImage(
                    requests[row],
                    unsafe=unsafe[n],
                    # A copy: a winner must not hold its whole batch in memory.
                    pixels=pixels[n].copy() if unsafe[n] is None else None,
                    scores=values,
                    remarks=remarks_of(scores, n),
                    image_embedding=vector_of(vectors.image_embeddings, n),
                    text_embedding=vector_of(vectors.text_embeddings, n),
                    truncated=is_truncated(scores, n),
                    prompt_truncated=truncated[row],
                )
            )
        return scored

    def _score_again(
        self, images: list[ScoredImage], work: dict[str, ScorerWork], rows: range
    ) -> list[ScoredImage]:
        """Some of the finalists, with the scores that they lacked."""
        import numpy as np
        import torch

        images = images[rows.start : rows.stop]
        stacked = torch.from_numpy(np.stack([_pixels(image) for image in images]))
        pixels = stacked.permute(0, 3, 1, 2).contiguous()
        requests = [image.request for image in images]
        scores = self._scores(self._last, pixels, pixels, requests, work)
        vectors = embedding_scores(scores)
        scored = []
        for n, image in enumerate(images):
            values = {name: float(batch.values[n]) for name, batch in scores.items()}
            values = {**image.scores, **values}
            problem = problem_of(scores, n, values, self._recipe.scorers)
            if problem is not None:
                scored.append(ScoredImage(image.request, problem, reproducible=image.reproducible))
                continue
            image = replace(image, scores=values)
            image = replace(image, remarks={**image.remarks, **remarks_of(scores, n)})
            image = replace(image, truncated=image.truncated or is_truncated(scores, n))
            if image.image_embedding is None:
                image = replace(
                    image,
                    image_embedding=vector_of(vectors.image_embeddings, n),
                    text_embedding=vector_of(vectors.text_embeddings, n),
                )
            scored.append(image)
        return scored

    def _scores(
        self,
        scorers: Mapping[str, Scorer],
        images: torch.Tensor,
        on_host: torch.Tensor,
        requests: Sequence[GenerationRequest],
        work: dict[str, ScorerWork],
    ) -> dict[str, Scores]:
        """The scores of some images by each scorer; scorers on the CPU work beside the others."""
        waiting = {
            name: [
                self._encoding.submit(_score, name, scorer, on_host[n : n + 1], requests[n : n + 1])
                for n in range(len(requests))
            ]
            for name, scorer in scorers.items()
            if scorer.on_cpu
        }
        parts = {
            name: [_score(name, scorer, images, requests)]
            for name, scorer in scorers.items()
            if not scorer.on_cpu
        }
        for name, futures in waiting.items():
            parts[name] = [future.result() for future in futures]
        scored = {}
        for name, scorer in scorers.items():
            device = "cpu" if scorer.on_cpu else str(scorer.device or self._device)
            done = work.setdefault(name, ScorerWork(device))
            done.batches += 1
            done.images += len(requests)
            done.seconds += sum(seconds for _, seconds in parts[name])
            scores = [part for part, _ in parts[name]]
            scored[name] = scores[0] if len(scores) == 1 else Scores.joined(scores)
        return scored

    def _unsafe(self, pixels: torch.Tensor) -> list[str | None]:
        """Why the image checks reject each image, or None; the first one that does says it."""
        reasons: list[str | None] = [None] * len(pixels)
        for check in self._models.image_checks:
            found = zip(reasons, check.check(pixels), strict=True)
            reasons = [before or reason for before, reason in found]
        return reasons


def _score(
    name: str, scorer: Scorer, images: torch.Tensor, requests: Sequence[GenerationRequest]
) -> tuple[Scores, float]:
    """The scores, and the seconds that they took."""
    began = time.monotonic()
    with contract("scorer", name):
        if isinstance(scorer, QuestionScorer):
            questions = [request.questions.get(name, ()) for request in requests]
            scores = scorer.score_answers(images, questions)
        else:
            scores = scorer.score(images, [request.prompt for request in requests])
    check_scores(name, scores, len(requests))
    return scores, time.monotonic() - began


def _pixels(image: ScoredImage) -> np.ndarray:
    assert image.pixels is not None
    return image.pixels
