"""All errors that this package raises on purpose.

A message is one line that says what is wrong, where (file, row, recipe key), and what to do.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Mapping, Sequence
from typing import Any

from synthvlm.safe_text import without_secrets

__all__ = [
    "CaptionSourceError",
    "EngineError",
    "EvaluationError",
    "GenerationError",
    "MissingExtraError",
    "ModelError",
    "OutOfMemoryError",
    "PluginError",
    "RecipeError",
    "RunFolderError",
    "SynthVLMError",
    "TooManyFailuresError",
    "first_line",
    "is_out_of_memory",
    "nearest",
]


#: Messages of RuntimeErrors that mean that memory ran out: of the CPU allocator, oneDNN, cuBLAS and
#: the CUDA driver.
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "not enough memory: you tried to allocate",
    "could not create a primitive",
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


class SynthVLMError(Exception):
    """Base class of all errors of this package; the command line shows the message as one line."""

    def __init__(self, *texts: str) -> None:
        """Take a message, of which secrets are left out: it may be written to files."""
        super().__init__(*map(without_secrets, texts))


class RecipeError(SynthVLMError):
    """The recipe has an unknown key, a bad value or an impossible combination."""


class PluginError(SynthVLMError):
    """A user's component cannot be loaded, or violates the contract of its kind."""


class CaptionSourceError(SynthVLMError):
    """A caption source is missing, unreadable, or has unusable content."""


class RunFolderError(SynthVLMError):
    """A folder is not a run folder, cannot be read or written, or is in use by another run."""


class ModelError(SynthVLMError):
    """A model cannot be found or loaded."""


class GenerationError(SynthVLMError):
    """A generator could not generate an image."""


class OutOfMemoryError(GenerationError):
    """A batch does not fit into the memory of the device; a smaller one may."""


class TooManyFailuresError(SynthVLMError):
    """More rows failed than the recipe allows; finished work is kept."""


class TargetNotReachedError(SynthVLMError):
    """A run has fewer pairs than its target asks for; its data set has what there is."""


class EngineError(SynthVLMError):
    """Workers cannot be started, or keep dying; finished work is kept."""


class EvaluationError(SynthVLMError):
    """A benchmark's questions, its harness or its results cannot be used."""


class MissingExtraError(SynthVLMError):
    """An optional dependency is needed; the message holds the command that installs it."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message without secrets, or its type if it has none."""
    return without_secrets((str(error).strip() or type(error).__name__).splitlines()[0])


def nearest(name: str, names: Mapping[str, Any] | Sequence[str]) -> str:
    """A hint for an invalid name: the most similar valid one, or else all of them."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    if close:
        return f", did you mean {close[0]!r}?"
    return f" (valid: {', '.join(names)})" if names else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of a library means that memory ran out."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError, OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)
