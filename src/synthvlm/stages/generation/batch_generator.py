"""Images generated in batches, and scored while the next batch is generated."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from synthvlm.components.contract import contract
from synthvlm.errors import GenerationError, OutOfMemoryError, first_line
from synthvlm.generators.base import check_images
from synthvlm.scorers.base import Scores, check_scores

if TYPE_CHECKING:
    import numpy as np
    import torch

    from synthvlm.engines.base import Reporter
    from synthvlm.generators.base import GeneratedImages
    from synthvlm.generators.diffusers import DiffusersGenerator
    from synthvlm.recipe import Recipe
    from synthvlm.scorers.base import Scorer
    from synthvlm.stages.generation.models import Models

__all__ = ["BatchGenerator", "BatchSizer", "GenerationRequest", "ScoredImage"]

_MOST_ENCODERS = 8


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """An image to generate.

    Attributes:
        id: The caption's id.
        index: Zero-based number among the candidates of the caption.
        prompt: The caption's text.
        seed: 0 .. 2**63 - 1.
    """

    id: str
    index: int
    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class ScoredImage:
    """What became of a request.

    Attributes:
        request: The request.
        problem: Why there is no image; the fields below are then None.
        unsafe: Why the image check rejects it; it has scores and no pixels.
        pixels: uint8, shape (height, width, 3).
        scores: The value of each scorer, by its name.
        image_embedding: float32, shape (d,), unit length, of the first scorer that embeds; None
            where none does.
        text_embedding: The same of the caption.
        truncated: Whether a scorer saw only the beginning of the caption.
        prompt_truncated: Whether the generator's text encoders did.
        reproducible: Whether prompt and seed determine the image.
    """

    request: GenerationRequest
    problem: str | None = None
    unsafe: str | None = None
    pixels: np.ndarray | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    image_embedding: np.ndarray | None = None
    text_embedding: np.ndarray | None = None
    truncated: bool = False
    prompt_truncated: bool = False
    reproducible: bool = True


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
        """
        if self._models is None:
            self._models = self._load()
        generated = self._generate_parts(list(requests))
        return self._scoring.submit(self._score, generated)

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
        generated = []
        while requests:
            size = min(size, self.sizer.size)  # a part may not fit either
            generated += self._generate_parts(requests[:size])
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
        unsafe = self._unsafe(pixels_in)
        embedded = [s for s in scores.values() if s.image_embeddings is not None]
        vectors = embedded[0] if embedded else Scores(np.zeros(0))
        scored = []
        for n, row in enumerate(rows):
            values = {name: float(batch.values[n]) for name, batch in scores.items()}
            problem = images.problems[row] or blank[n] or _no_number(values)
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


def _no_number(values: Mapping[str, float]) -> str | None:
    """Why an image cannot be ranked: a NaN would win over every number, or over none."""
    return next(
        (f"scorer {name!r} gave {v}" for name, v in values.items() if not math.isfinite(v)), None
    )


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


_LARGEST = 256
#: A larger batch must save this share of the time per image to be worth its memory.
_GAIN = 0.05


class BatchSizer:
    """A batch size that is given, or found while running; it never grows after memory ran out.

    ``auto`` begins with one image and doubles as long as an image takes less time than in the
    batches before; the first batch of a size warms up and is not timed.
    """

    def __init__(self, setting: Literal["auto"] | int) -> None:
        """Take the recipe's setting."""
        self._searching = setting == "auto"
        self.size: int = 1 if setting == "auto" else setting
        self._best: float | None = None
        self._is_warm = False

    def record_batch(self, images: int, seconds: float) -> None:
        """Take note of a batch that was generated."""
        if not self._searching or images != self.size:
            return
        if not self._is_warm:
            self._is_warm = True
            return
        each = seconds / images
        if self._best is not None and each > self._best * (1 - _GAIN):
            self._searching = False
            self.size //= 2
        elif self.size >= _LARGEST:
            self._searching = False
        else:
            self._best, self._is_warm = each, False
            self.size *= 2

    def shrink(self, images: int) -> int:
        """A batch did not fit into memory; the size to go on with, below that of the batch."""
        self._searching = False
        self.size = max(1, min(self.size, images // 2))
        return self.size
