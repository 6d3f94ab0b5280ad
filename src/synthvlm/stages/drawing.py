"""Images drawn in batches, and scored while the next batch is drawn."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from synthvlm.errors import GenerationError, OutOfMemoryError
from synthvlm.stages.batch_size import BatchSizer
from synthvlm.stages.models import Models

if TYPE_CHECKING:
    import numpy as np
    import torch

    from synthvlm.generators.base import GeneratedImages
    from synthvlm.progress import Progress
    from synthvlm.recipe import Recipe

__all__ = ["Drawer", "Image", "Order"]

_MOST_ENCODERS = 8


@dataclass(frozen=True, slots=True)
class Order:
    """An image to draw."""

    id: str
    index: int
    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class Image:
    """What came of an order.

    Attributes:
        order: The order.
        problem: Why there is no image; the fields below are then None.
        pixels: uint8, shape (height, width, 3).
        clip_score: 0 .. 1.
        ssim_score: -1 .. 1.
        image_embedding: The scorer's, unit length.
        text_embedding: The same of the caption.
        truncated: Whether the scorer's text tower cut the caption off.
        prompt_truncated: Whether the generator's text encoders did.
    """

    order: Order
    problem: str | None = None
    pixels: np.ndarray | None = None
    clip_score: float | None = None
    ssim_score: float | None = None
    image_embedding: np.ndarray | None = None
    text_embedding: np.ndarray | None = None
    truncated: bool = False
    prompt_truncated: bool = False


class Drawer:
    """Draws images on the caller's thread and scores them on another; use it as a context manager.

    Attributes:
        drawing_s: Seconds that the generator was at work.
    """

    def __init__(self, recipe: Recipe, progress: Progress) -> None:
        """Models are loaded for the first batch."""
        self._recipe, self._progress = recipe, progress
        self._models: Models | None = None
        self.sizer = BatchSizer(recipe.run.batch_size)
        self.drawing_s = 0.0

    def __enter__(self) -> Self:
        """Start the threads."""
        self._scoring = ThreadPoolExecutor(1, "scoring", self._prepare_thread)
        workers = min(_MOST_ENCODERS, max(1, (os.cpu_count() or 2) // 2))
        self._encoding = ThreadPoolExecutor(workers, "encoding")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the threads finish."""
        self._scoring.shutdown(cancel_futures=error is not None)
        self._encoding.shutdown(cancel_futures=error is not None)

    def in_background(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Do CPU work, such as encoding an image, beside all else."""
        return self._encoding.submit(work, *arguments)

    def draw(self, orders: Sequence[Order]) -> Future[list[Image]]:
        """Draw a batch now; it is scored, in the order of the calls, while the caller goes on.

        An image that fails spoils no other one: a batch that fails, or does not fit into memory,
        is drawn again in smaller ones.

        Raises:
            ModelError: A model cannot be loaded.
        """
        if self._models is None:
            self._models = Models.load(self._recipe)
            if not self._models.generator.reproducible:
                self._progress.note(
                    "note: the generator draws by no seed of ours: no image of "
                    "this run can be made again"
                )
        drawn = self._draw(list(orders))
        return self._scoring.submit(self._score, drawn)

    def _draw(self, orders: list[Order]) -> list[tuple[list[Order], GeneratedImages | str]]:
        """Parts of the batch with their images, or the reason why there are none."""
        assert self._models is not None
        began = time.monotonic()
        try:
            images = self._models.generator.generate(
                [order.prompt for order in orders], [order.seed for order in orders]
            )
        except OutOfMemoryError as error:
            if len(orders) == 1:
                return [(orders, str(error))]
            size = self.sizer.ran_out(len(orders))
            self._progress.note(
                f"note: {len(orders)} images at a time do not fit into memory, going on with {size}"
            )
            return self._parts(orders, size)
        except GenerationError as error:
            return [(orders, str(error))] if len(orders) == 1 else self._parts(orders, 1)
        finally:
            self.drawing_s += time.monotonic() - began
        self.sizer.drew(len(orders), time.monotonic() - began)
        return [(orders, images)]

    def _parts(
        self, orders: list[Order], size: int
    ) -> list[tuple[list[Order], GeneratedImages | str]]:
        drawn = []
        while orders:
            size = min(size, self.sizer.size)  # a part may not fit either
            drawn += self._draw(orders[:size])
            orders = orders[size:]
        return drawn

    def _prepare_thread(self) -> None:
        import torch

        # The number is each thread's own, and results depend on it.
        if isinstance(self._recipe.run.threads, int):
            torch.set_num_threads(self._recipe.run.threads)

    def _score(self, drawn: list[tuple[list[Order], GeneratedImages | str]]) -> list[Image]:
        found: list[Image] = []
        for orders, images in drawn:
            if isinstance(images, str):
                found += [Image(order, images) for order in orders]
            else:
                with _own_stream(images.pixels):
                    found += self._score_images(orders, images)
        return found

    def _score_images(self, orders: list[Order], images: GeneratedImages) -> list[Image]:
        import numpy as np

        assert self._models is not None
        captions = [order.prompt for order in orders]
        ssim, on_host = self._models.ssim, images.pixels.cpu()
        parts = [
            self._encoding.submit(ssim.score, on_host[n : n + 1], captions[n : n + 1])
            for n in range(len(orders))
        ]
        clip = self._models.clip.score(images.pixels, captions)
        pixels = np.ascontiguousarray(on_host.permute(0, 2, 3, 1).numpy())
        cut = images.truncated or (False,) * len(orders)
        assert clip.image_embeddings is not None
        assert clip.text_embeddings is not None
        assert clip.truncated is not None
        return [
            Image(order, images.problems[n])
            if images.problems[n] is not None
            else Image(
                order,
                None,
                pixels[n].copy(),  # a winner must not hold its batch in memory
                float(clip.values[n]),
                float(parts[n].result().values[0]),
                clip.image_embeddings[n],
                clip.text_embeddings[n],
                clip.truncated[n],
                cut[n],
            )
            for n, order in enumerate(orders)
        ]


def _own_stream(pixels: torch.Tensor) -> Any:
    """On a GPU a stream beside that of the drawing, which would otherwise be waited for."""
    if pixels.device.type != "cuda":
        return nullcontext()
    import torch

    return torch.cuda.stream(torch.cuda.Stream(pixels.device))  # type: ignore[no-untyped-call]
