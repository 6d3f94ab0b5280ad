"""Images generated in batches, and scored while the next batch is generated."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, cast

from synthvlm.components.contract import contract
from synthvlm.data import PLAIN_CAPTION, PLAIN_QUESTIONS, candidate_seed
from synthvlm.errors import (
    GenerationError,
    OutOfMemoryError,
    TooManyFailuresError,
)
from synthvlm.generators.base import check_images
from synthvlm.stages.generation.batch_scorer import BatchScorer, GeneratedPart, ScorerWork
from synthvlm.stages.generation.batch_size import BatchSizer
from synthvlm.stages.generation.requests import GenerationRequest, ScoredImage

if TYPE_CHECKING:
    from synthvlm.engines.base import Reporter
    from synthvlm.generators.base import GeneratedImages, Generator
    from synthvlm.generators.diffusers import DiffusersGenerator
    from synthvlm.recipe import Recipe
    from synthvlm.stages.generation.models import Models

__all__ = ["BatchGenerator"]

#: Images that failed one after another, after which the plain caption is tried.
_FAILED_IN_A_ROW = 8
#: Images of the plain caption, none of which may succeed: some models fail now and then.
_TRIES = 4


class _Outcomes:
    """What became of images, batch by batch: whether they seem to fail whatever the caption."""

    def __init__(self) -> None:
        self.uncounted: deque[Future[list[ScoredImage]]] = deque()
        self.has_succeeded, self._failed_in_a_row = False, 0

    def count(self, but: int) -> bool:
        """Count all batches but the last ones; whether there is reason to try a plain caption."""
        while len(self.uncounted) > but:
            for image in self.uncounted.popleft().result():
                if image.problem is None:
                    self.succeeded()
                else:
                    self._failed_in_a_row += 1
        return self._failed_in_a_row >= (_FAILED_IN_A_ROW if self.has_succeeded else 1)

    def succeeded(self) -> None:
        """An image succeeded."""
        self.has_succeeded, self._failed_in_a_row = True, 0


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
        self._generator: Generator | None = None
        self._scorer: BatchScorer | None = None
        self.sizer = BatchSizer(_batch_size(recipe))
        self.generation_seconds = self.loading_seconds = 0.0
        self._images, self._finalists = _Outcomes(), _Outcomes()

    def close(self) -> None:
        """Let the threads finish what they have begun, and drop the rest."""
        if self._scorer is not None:
            self._scorer.close()

    def in_background(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Do CPU work, such as encoding an image, on a thread of its own."""
        return self._loaded_scorer().in_background(work, *arguments)

    @property
    def finalists_size(self) -> int:
        """How many finalists ``score_finalists`` should be given at a time."""
        most = None if self._scorer is None else self._scorer.most_finalists
        return self.sizer.size if most is None else min(most, self.sizer.size)

    def generate(
        self, requests: Sequence[GenerationRequest], work: dict[str, ScorerWork] | None = None
    ) -> Future[list[ScoredImage]]:
        """Generate a batch; scoring goes on in the background, in the order of the calls.

        Scored are the images by the scorers that see all, see ``score_finalists``. An image that
        fails spoils no other one: a batch that fails, or does not fit into memory, is generated
        again in smaller ones.

        Args:
            requests: The images.
            work: What each scorer does is added to it.

        Raises:
            ModelError: A model cannot be loaded.
            TooManyFailuresError: Not even a plain caption gives an image.
        """
        scorer = self._loaded_scorer()
        # Not the batch before, whose scores the caller does not have yet either.
        self._check(self._images, but=1)
        scored = scorer.score(self._generate_parts(list(requests)), {} if work is None else work)
        self._images.uncounted.append(scored)
        if not self._images.has_succeeded:
            self._check(self._images, but=0)
        return scored

    def score_finalists(
        self, images: Sequence[ScoredImage], work: dict[str, ScorerWork] | None = None
    ) -> Future[list[ScoredImage]]:
        """Score images by the scorers with ``only_best`` too, in the background.

        Args:
            images: That have pixels, as ``generate`` returned them.
            work: As in ``generate``.

        Raises:
            TooManyFailuresError: Not even a plain caption gives an image that can be scored.
        """
        outcomes = self._finalists
        self._check(outcomes, but=1)
        scored = self._loaded_scorer().score_finalists(images, {} if work is None else work)
        outcomes.uncounted.append(scored)
        if not outcomes.has_succeeded:
            self._check(outcomes, but=0)
        return scored

    def _check(self, outcomes: _Outcomes, but: int) -> None:
        """Take note of what became of all batches but the last; stop where nothing succeeds."""
        if outcomes.count(but):
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
        self._images.succeeded()
        self._finalists.succeeded()

    def _plain_problem(self, index: int) -> str | None:
        """Why there is no image of the plain caption, or None."""
        seed = candidate_seed(self._recipe.seed, "", index)
        questions = dict.fromkeys(self._recipe.question_scorers, PLAIN_QUESTIONS)
        request = GenerationRequest("", index, PLAIN_CAPTION, seed, questions)
        try:
            part = self._generate_batch([request])
        except GenerationError as error:
            return str(error)
        scorer = self._loaded_scorer()
        image = scorer.score([part], {}).result()[0]
        if image.pixels is not None and self._recipe.finalists is not None:
            image = scorer.score_finalists([image], {}).result()[0]
        return image.problem

    def _loaded_scorer(self) -> BatchScorer:
        if self._scorer is None:
            models = self._load()
            self._generator = models.generator
            self._scorer = BatchScorer(self._recipe, models, self.sizer)
        return self._scorer

    def _load(self) -> Models:
        """Load the models, and compile them where the recipe asks for it."""
        began = time.monotonic()
        models = self._load_models(self._recipe)
        if self._recipe.generation.compile:
            self._progress.note("note: compiling, which takes minutes; then it goes faster")
            cast("DiffusersGenerator", models.generator).warm_up(self.sizer.size)
        self.loading_seconds = time.monotonic() - began
        if not models.generator.reproducible:
            self._progress.note(
                "note: the generator takes no seeds: no image of this run can be generated again"
            )
        return models

    def _generate_parts(self, requests: list[GenerationRequest]) -> list[GeneratedPart]:
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
            return [GeneratedPart(requests, str(failure))]
        size = 1
        if isinstance(failure, OutOfMemoryError):
            size = self.sizer.shrink(len(requests))
            self._progress.note(
                f"note: {len(requests)} images at a time do not fit into memory, continuing with "
                f"{size}"
            )
        return self._generate_smaller(requests, size)

    def _generate_batch(self, requests: list[GenerationRequest]) -> GeneratedPart:
        assert self._generator is not None
        prompts = [request.prompt for request in requests]
        seeds = [request.seed for request in requests]
        generator = self._generator
        with contract("generator", generator.name):
            images = generator.generate(prompts, seeds)
        check_images(generator.name, images, len(requests))
        return GeneratedPart(requests, images, _ready(images))

    def _generate_smaller(
        self, requests: list[GenerationRequest], size: int
    ) -> list[GeneratedPart]:
        generated: list[GeneratedPart] = []
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
