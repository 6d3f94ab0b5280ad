"""Every error that this package raises on purpose.

A message is one line: what is wrong, where (file, row, recipe key), what to do.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Mapping, Sequence
from typing import Any

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


#: Beside torch.OutOfMemoryError: the CPU's allocator, oneDNN, cuBLAS, and the driver when asked.
_SIGNS = (
    "DefaultCPUAllocator",
    "not enough memory: you tried to allocate",
    "could not create a primitive",
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


class SynthVLMError(Exception):
    """Base of all errors of this package; the command line prints its message as one line."""


class RecipeError(SynthVLMError):
    """The recipe has an unknown key, a bad value or an impossible combination."""


class PluginError(SynthVLMError):
    """A component of a user cannot be loaded, or breaks the contract of its kind."""


class CaptionSourceError(SynthVLMError):
    """A caption source is missing, unreadable, or holds what cannot be used."""


class RunFolderError(SynthVLMError):
    """The run folder is not one, cannot be written, or belongs to another run."""


class ModelError(SynthVLMError):
    """A model cannot be found or loaded."""


class GenerationError(SynthVLMError):
    """A generator could not make an image."""


class OutOfMemoryError(GenerationError):
    """A batch does not fit into the device's memory; a smaller one may."""


class TooManyFailuresError(SynthVLMError):
    """More rows failed than the recipe allows; what is finished is kept."""


class EngineError(SynthVLMError):
    """Workers cannot be had, or die whatever they are given; what is finished is kept."""


class EvaluationError(SynthVLMError):
    """A benchmark's questions, its harness or its results cannot be used."""


class MissingExtraError(SynthVLMError):
    """An optional dependency is needed; the message holds the command that installs it."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind: other people's messages are long."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def nearest(name: str, names: Mapping[str, Any] | Sequence[str]) -> str:
    """A hint at the closest valid name, or at all of them."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    if close:
        return f", did you mean {close[0]!r}?"
    return f" (valid: {', '.join(names)})" if names else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of a library says that the device's memory did not suffice."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)
