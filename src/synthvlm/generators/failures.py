"""Failures of libraries as errors of this package."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

from synthvlm.errors import (
    GenerationError,
    OutOfMemoryError,
    SynthVLMError,
    first_line,
    is_out_of_memory,
)
from synthvlm.models.devices import empty_caches

__all__ = ["guarded", "quiet"]

Result = TypeVar("Result")

#: Loggers of libraries; torchao's remarks are on kernels that this machine cannot use.
_REMARKING = ("diffusers", "transformers", "peft", "torchao", "torch.utils._pytree")


def guarded(kind: str, work: Callable[[], Result], recover: Callable[[], None]) -> Result:
    """The result of a pipeline's work; ``recover`` is called when it failed.

    Args:
        kind: The pipeline's class, for messages.
        work: Generates a batch.
        recover: Brings the pipeline back to a state from which it can generate.

    Raises:
        OutOfMemoryError: The device's memory did not suffice; what the batch held is free again.
        GenerationError: It failed otherwise.
    """
    try:
        return work()
    except SynthVLMError:
        raise
    except Exception as error:  # libraries raise anything for a prompt that they cannot take
        problem = first_line(error)
        if not _is_out_of_memory(error):
            recover()
            raise GenerationError(f"{kind} failed: {problem}") from error
    # The error is gone here, and with it the tensors that its traceback held.
    recover()
    empty_caches()
    raise OutOfMemoryError(f"{kind} ran out of memory: {problem}")


def _is_out_of_memory(error: BaseException) -> bool:
    # Pipelines of Sana swallow the decoder's lack of memory, and then miss its image.
    if isinstance(error, UnboundLocalError):
        return "'image'" in str(error)
    return is_out_of_memory(error)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' loading bars and remarks out of our display."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
    loggers = [logging.getLogger(name) for name in _REMARKING]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
