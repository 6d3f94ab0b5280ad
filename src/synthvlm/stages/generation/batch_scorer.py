"""Images of a batch, scored and checked on a thread of its own, beside the generator."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from synthvlm.components.contract import contract
from synthvlm.errors import first_line
from synthvlm.scorers.base import Scores, check_scores
from synthvlm.stages.generation.candidate_plan import weighted_score
from synthvlm.stages.generation.requests import GenerationRequest, ScoredImage

if TYPE_CHECKING:
    import numpy as np
    import torch

    from synthvlm.generators.base import GeneratedImages
    from synthvlm.recipe import Recipe
    from synthvlm.scorers.base import Scorer
    from synthvlm.stages.generation.batch_size import BatchSizer
    from synthvlm.stages.generation.models import Models

__all__ = ["BatchScorer", "GeneratedPart"]

_MOST_ENCODERS = 8


@dataclass(frozen=True, slots=True)
class GeneratedPart:
    """A part of a batch: its images, or why there are none.

    On a GPU also an event that is set once the images are there.
    """

    requests: list[GenerationRequest]
    images: GeneratedImages | str
    ready: Any = None


class BatchScorer:
    """Scores batches in the order in which they come; it must be closed."""

    def __init__(self, recipe: Recipe, models: Models, sizer: BatchSizer) -> None:
        """Start the threads; ``sizer`` is told where memory does not suffice for a batch."""
        self._recipe, self._models, self._sizer = recipe, models, sizer
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

    def score(self, generated: Sequence[GeneratedPart]) -> Future[list[ScoredImage]]:
        """Score the parts of a batch; what failed to be generated passes through."""
        return self._scoring.submit(self._score, generated)

    def _prepare_thread(self) -> None:
        import torch

        # The number is each thread's own, and results depend on it.
        if isinstance(self._recipe.run.threads, int):
            torch.set_num_threads(self._recipe.run.threads)

    def _score(self, generated: Sequence[GeneratedPart]) -> list[ScoredImage]:
        is_reproducible = self._models.generator.reproducible
        scored: list[ScoredImage] = []
        for part in generated:
            if isinstance(part.images, str):
                scored += [ScoredImage(request, part.images) for request in part.requests]
                continue
            with self._scoring_stream(part):
                images = self._score_rows(part.requests, part.images, range(len(part.requests)))
            scored += [replace(image, reproducible=is_reproducible) for image in images]
        return scored

    def _score_rows(
        self, requests: list[GenerationRequest], images: GeneratedImages, rows: range
    ) -> list[ScoredImage]:
        """The images of some rows of a batch, in smaller parts where memory does not suffice."""
        from synthvlm.errors import is_out_of_memory
        from synthvlm.models.devices import empty_caches

        try:
            return self._score_images(requests, images, rows)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            problem = f"there is no memory to score it: {first_line(error)}"
        empty_caches()
        if len(rows) == 1:
            return [ScoredImage(requests[rows[0]], problem)]
        self._sizer.shrink(len(rows))
        half = len(rows) // 2
        first = self._score_rows(requests, images, rows[:half])
        return first + self._score_rows(requests, images, rows[half:])

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
        return torch.cuda.stream(self._stream)

    def _score_images(
        self, requests: list[GenerationRequest], images: GeneratedImages, rows: range
    ) -> list[ScoredImage]:
        """The images of some rows of a batch."""
        import numpy as np

        from synthvlm.scorers.image_checks import blank_images

        captions = [requests[n].prompt for n in rows]
        pixels_in = images.pixels[rows.start : rows.stop]
        on_host = pixels_in.cpu()
        scores = self._scores(pixels_in, on_host, captions)
        pixels = np.ascontiguousarray(on_host.permute(0, 2, 3, 1).numpy())
        truncated = images.truncated or (False,) * len(requests)
        blank = blank_images(pixels_in)
        unsafe = list(self._unsafe(pixels_in))
        embedded = [s for s in scores.values() if s.image_embeddings is not None]
        vectors = embedded[0] if embedded else Scores(np.zeros(0))
        scored = []
        for n, row in enumerate(rows):
            values = {name: float(batch.values[n]) for name, batch in scores.items()}
            own = images.unsafe[row] if images.unsafe else None
            unsafe[n] = unsafe[n] or own
            # What a generator's own check rejected may be black: that is no failure.
            problem = images.problems[row] or (blank[n] if own is None else None)
            problem = problem or _own_problem(scores, n)
            problem = problem or self._no_number(values) or _no_vector(scores, n)
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
                    image_embedding=_row(vectors.image_embeddings, n),
                    text_embedding=_row(vectors.text_embeddings, n),
                    truncated=any(s.truncated[n] for s in scores.values() if s.truncated),
                    prompt_truncated=truncated[row],
                )
            )
        return scored

    def _no_number(self, values: Mapping[str, float]) -> str | None:
        """Why an image cannot be ranked: a NaN would win over every number, or over none."""
        for name, value in values.items():
            if not math.isfinite(value):
                return f"scorer {name!r} gave {value}"
        total = weighted_score(values, self._recipe)
        return None if math.isfinite(total) else f"the weighted sum of its scores is {total}"

    def _scores(
        self, images: torch.Tensor, on_host: torch.Tensor, captions: list[str]
    ) -> dict[str, Scores]:
        """The scores of some images by each scorer; scorers on the CPU work beside the others."""
        scorers = self._models.scorers
        waiting = {
            name: [
                self._encoding.submit(_score, name, scorer, on_host[n : n + 1], captions[n : n + 1])
                for n in range(len(captions))
            ]
            for name, scorer in scorers.items()
            if scorer.on_cpu
        }
        scored = {
            name: _score(name, scorer, images, captions)
            for name, scorer in scorers.items()
            if not scorer.on_cpu
        }
        for name, parts in waiting.items():
            scored[name] = Scores.joined([part.result() for part in parts])
        return {name: scored[name] for name in scorers}

    def _unsafe(self, pixels: torch.Tensor) -> Sequence[str | None]:
        """Why the image check rejects each image, or None."""
        if self._models.image_check is None:
            return [None] * len(pixels)
        return self._models.image_check.check(pixels)


def _score(name: str, scorer: Scorer, images: torch.Tensor, captions: Sequence[str]) -> Scores:
    with contract("scorer", name):
        scores = scorer.score(images, captions)
    check_scores(name, scores, len(captions))
    return scores


def _own_problem(scores: Mapping[str, Scores], row: int) -> str | None:
    """Why a scorer could not score an image, in its own words, or None."""
    for name, batch in scores.items():
        problem = batch.problems[row] if batch.problems else None
        if problem is not None:
            return f"scorer {name!r}: {problem}"
    return None


def _no_vector(scores: Mapping[str, Scores], row: int) -> str | None:
    """Which scorer's embedding of an image or its caption is no vector, or None."""
    import numpy as np

    for name, batch in scores.items():
        for vectors in (batch.image_embeddings, batch.text_embeddings):
            if vectors is not None and not np.isfinite(vectors[row]).all():
                return f"scorer {name!r} gave an embedding with NaN or infinity"
    return None


def _row(vectors: np.ndarray | None, row: int) -> np.ndarray | None:
    return None if vectors is None else vectors[row]
