"""Images generated in batches, and scored while the next batch is generated."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from synthvlm.components.contract import contract
from synthvlm.data import PLAIN_CAPTION, candidate_seed
from synthvlm.errors import (
    GenerationError,
    OutOfMemoryError,
    TooManyFailuresError,
    first_line,
)
from synthvlm.generators.base import check_images
from synthvlm.scorers.base import Scores, check_scores
from synthvlm.stages.generation.batch_size import BatchSizer
from synthvlm.stages.generation.candidate_plan import weighted_score
from synthvlm.stages.generation.requests import GenerationRequest, ScoredImage

if TYPE_CHECKING:
    import numpy as np
    import torch

    from synthvlm.engines.base import Reporter
    from synthvlm.generators.base import GeneratedImages
    from synthvlm.generators.diffusers import DiffusersGenerator
    from synthvlm.recipe import Recipe
    from synthvlm.scorers.base import Scorer
    from synthvlm.stages.generation.models import Models

__all__ = ["BatchGenerator"]

_MOST_ENCODERS = 8

#: Images that failed one after another, after which the plain caption is tried.
_FAILED_IN_A_ROW = 8
#: Images of the plain caption, none of which may succeed: some models fail now and then.
_TRIES = 4


@dataclass(frozen=True, slots=True)
class _GeneratedPart:
    """A part of a batch: its images, or why there are none.

    On a GPU also an event that is set once the images are there.
    """

    requests: list[GenerationRequest]
    images: GeneratedImages | str
    ready: Any = None


class BatchGenerator:
    """Generates images on the caller's thread and scores them on another; it must be closed.

    It notices where images fail whatever the caption: as long as none has succeeded, after the
    first batch; where a batch fails whole, after the first image that fails alone, too; and after
    8 images that failed one after another. Then up to 4 images of a plain caption are tried. If
    none succeeds, that is the error; else the captions are to blame, and it goes on.

    Attributes:
        generation_seconds: Seconds that the generator was at work.
        loading_seconds: Seconds that it took to load the models, and to compile them.
    """

    def __init__(
        self, recipe: Recipe, progress: Reporter, load_models: Callable[[Recipe], Models]
    ) -> None:
        """Models are loaded for the first batch."""
        self._recipe, self._progress, self._load_models = recipe, progress, load_models
        self._models: Models | None = None
        self.sizer = BatchSizer(_batch_size(recipe))
        self.generation_seconds = self.loading_seconds = 0.0
        self._is_reproducible = True
        self._has_succeeded, self._failed_in_a_row = False, 0
        self._uncounted: deque[Future[list[ScoredImage]]] = deque()
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

    def generate(self, requests: Sequence[GenerationRequest]) -> Future[list[ScoredImage]]:
        """Generate a batch; scoring goes on in the background, in the order of the calls.

        An image that fails spoils no other one: a batch that fails, or does not fit into memory,
        is generated again in smaller ones.

        Raises:
            ModelError: A model cannot be loaded.
            TooManyFailuresError: Not even a plain caption gives an image.
        """
        if self._models is None:
            self._models = self._load()
        # Not the batch before, whose scores the caller does not have yet either.
        self._count_failures(but=1)
        generated = self._generate_parts(list(requests))
        scored = self._scoring.submit(self._score, generated)
        self._uncounted.append(scored)
        if not self._has_succeeded:
            self._count_failures(but=0)
        return scored

    def _count_failures(self, but: int) -> None:
        """Take note of what became of all batches but the last; stop where nothing succeeds."""
        while len(self._uncounted) > but:
            for image in self._uncounted.popleft().result():
                if image.problem is None:
                    self._has_succeeded, self._failed_in_a_row = True, 0
                else:
                    self._failed_in_a_row += 1
        if self._failed_in_a_row >= (_FAILED_IN_A_ROW if self._has_succeeded else 1):
            self._try_plain_caption()

    def _try_plain_caption(self) -> None:
        for index in range(_TRIES):
            problem = self._plain_problem(index)
            if problem is None:
                break
        else:
            raise TooManyFailuresError(
                f"no image can be made or scored, not even of {PLAIN_CAPTION!r}: {problem}; fix "
                f"the cause and run again, what is finished is kept"
            )
        self._has_succeeded, self._failed_in_a_row = True, 0

    def _plain_problem(self, index: int) -> str | None:
        """Why there is no image of the plain caption, or None."""
        seed = candidate_seed(self._recipe.seed, "", index)
        try:
            part = self._generate_batch([GenerationRequest("", index, PLAIN_CAPTION, seed)])
        except GenerationError as error:
            return str(error)
        return self._scoring.submit(self._score, [part]).result()[0].problem

    def _load(self) -> Models:
        """Load the models, and compile them where the recipe asks for it."""
        began = time.monotonic()
        models = self._load_models(self._recipe)
        if self._recipe.generation.compile:
            self._progress.note("note: compiling, which takes minutes; then it goes faster")
            cast("DiffusersGenerator", models.generator).warm_up(self.sizer.size)
        self.loading_seconds = time.monotonic() - began
        self._is_reproducible = models.generator.reproducible
        if not self._is_reproducible:
            self._progress.note(
                "note: the generator takes no seeds: no image of this run can be generated again"
            )
        return models

    def _generate_parts(self, requests: list[GenerationRequest]) -> list[_GeneratedPart]:
        """The batch in one or more parts."""
        began = time.monotonic()
        failure: GenerationError | None = None
        try:
            generated = self._generate_batch(requests)
        except GenerationError as error:
            failure = error
        seconds = time.monotonic() - began
        self.generation_seconds += seconds
        if failure is None:
            self.sizer.record_batch(len(requests), seconds)
            return [generated]
        if len(requests) == 1:
            return [_GeneratedPart(requests, str(failure))]
        size = 1
        if isinstance(failure, OutOfMemoryError):
            size = self.sizer.shrink(len(requests))
            self._progress.note(
                f"note: {len(requests)} images at a time do not fit into memory, continuing with "
                f"{size}"
            )
        return self._generate_smaller(requests, size)

    def _generate_batch(self, requests: list[GenerationRequest]) -> _GeneratedPart:
        assert self._models is not None
        prompts = [request.prompt for request in requests]
        seeds = [request.seed for request in requests]
        generator = self._models.generator
        with contract("generator", generator.name):
            images = generator.generate(prompts, seeds)
        check_images(generator.name, images, len(requests))
        return _GeneratedPart(requests, images, _ready(images))

    def _generate_smaller(
        self, requests: list[GenerationRequest], size: int
    ) -> list[_GeneratedPart]:
        generated: list[_GeneratedPart] = []
        is_tried = False
        while requests:
            size = min(size, self.sizer.size)  # a part may not fit either
            parts = self._generate_parts(requests[:size])
            if not is_tried and all(isinstance(part.images, str) for part in parts):
                self._try_plain_caption()
                is_tried = True
            generated += parts
            requests = requests[size:]
        return generated

    def _unsafe(self, pixels: torch.Tensor) -> Sequence[str | None]:
        """Why the image check rejects each image, or None."""
        assert self._models is not None
        if self._models.image_check is None:
            return [None] * len(pixels)
        return self._models.image_check.check(pixels)

    def _prepare_thread(self) -> None:
        import torch

        # The number is each thread's own, and results depend on it.
        if isinstance(self._recipe.run.threads, int):
            torch.set_num_threads(self._recipe.run.threads)

    def _score(self, generated: list[_GeneratedPart]) -> list[ScoredImage]:
        scored: list[ScoredImage] = []
        for part in generated:
            if isinstance(part.images, str):
                scored += [ScoredImage(request, part.images) for request in part.requests]
                continue
            with self._scoring_stream(part):
                images = self._score_rows(part.requests, part.images, range(len(part.requests)))
            scored += [replace(image, reproducible=self._is_reproducible) for image in images]
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
        self.sizer.shrink(len(rows))
        half = len(rows) // 2
        first = self._score_rows(requests, images, rows[:half])
        return first + self._score_rows(requests, images, rows[half:])

    def _scoring_stream(self, part: _GeneratedPart) -> AbstractContextManager[Any]:
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

        assert self._models is not None
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
        assert self._models is not None
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


def _score(name: str, scorer: Scorer, images: torch.Tensor, captions: Sequence[str]) -> Scores:
    with contract("scorer", name):
        scores = scorer.score(images, captions)
    check_scores(name, scores, len(captions))
    return scores


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


def _batch_size(recipe: Recipe) -> Literal["auto"] | int:
    """The recipe's; of an endpoint many requests, for the slowest one ends a batch."""
    endpoint, size = recipe.generation.endpoint, recipe.run.batch_size
    if endpoint is None:
        return size
    return max(4 * endpoint.concurrency, size if isinstance(size, int) else 0)


def _ready(images: GeneratedImages) -> Any:
    """On a GPU an event that is set once the images are there; else None."""
    if images.pixels.device.type != "cuda":
        return None
    import torch

    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(images.pixels.device))
    return event
