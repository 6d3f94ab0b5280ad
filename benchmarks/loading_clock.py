"""Times a piece of work, and the loading of models within it, whoever does the loading."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from diffusers import DiffusionPipeline
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

#: Calls that load models or move them to their device.
LOADING = (
    (DiffusionPipeline, "from_pretrained"),
    (DiffusionPipeline, "to"),
    (CLIPModel, "from_pretrained"),
    (CLIPModel, "to"),
    (CLIPTokenizer, "from_pretrained"),
    (CLIPImageProcessorPil, "from_pretrained"),
)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of a piece of work.

    Attributes:
        seconds: All.
        loading_s: Those in calls that load models.
        processor_s: Of all threads and of finished child processes, loading left out.
    """

    seconds: float
    loading_s: float
    processor_s: float

    @property
    def work_s(self) -> float:
        """Seconds without loading."""
        return self.seconds - self.loading_s


def timed(work: Callable[[], object]) -> Times:
    """Do a piece of work; nothing else may run in this process while it loads."""
    gc.collect()
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.empty_cache()
    with _clock() as loading:
        began, processor = time.perf_counter(), _processor_time()
        work()
        if has_gpu:
            torch.cuda.synchronize()
        seconds, spent = time.perf_counter() - began, _processor_time() - processor
    return Times(seconds, sum(s for s, _ in loading), spent - sum(s for _, s in loading))


def _processor_time() -> float:
    return sum(os.times()[:4])


@contextlib.contextmanager
def _clock() -> Iterator[list[tuple[float, float]]]:
    """Collect elapsed and processor seconds of each outermost call of ``LOADING``."""
    spent: list[tuple[float, float]] = []
    depth = 0

    def clocked(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            nonlocal depth
            began, processor = time.perf_counter(), _processor_time()
            depth += 1
            try:
                return call(*arguments, **options)
            finally:
                depth -= 1
                if depth == 0:  # a pipeline loads its tokenizer by one of these calls
                    spent.append((time.perf_counter() - began, _processor_time() - processor))

        return wrapper

    with contextlib.ExitStack() as stack:
        for kind, name in LOADING:
            stack.enter_context(mock.patch.object(kind, name, clocked(getattr(kind, name))))
        yield spent
