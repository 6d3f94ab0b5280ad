"""The libraries of training: whether they are there, and what they say."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from synthvlm.errors import (
    CaptionSourceError,
    EngineError,
    MissingExtraError,
    OutOfMemoryError,
    RunFolderError,
    first_line,
)

__all__ = ["explained", "process_state", "quiet"]


def process_state() -> Any:
    """Accelerate's ``PartialState``: this process, the others, the device.

    Raises:
        MissingExtraError: A library of training is not installed.
        EngineError: There are several GPUs, and one process.
    """
    try:
        import datasets  # noqa: F401
        import peft  # noqa: F401
        import trl  # noqa: F401
        from accelerate import PartialState
    except ImportError as error:
        raise MissingExtraError(
            f"training needs {error.name}: pip install 'synthvlm[training]'"
        ) from None
    import torch

    # Left alone it takes processes without a GPU for trainings of their own.
    state = PartialState(cpu="LOCAL_RANK" in os.environ and not torch.cuda.is_available())
    if state.num_processes == 1 and state.device.type == "cuda" and torch.cuda.device_count() > 1:
        raise EngineError(
            "several GPUs are visible: `accelerate launch -m synthvlm train ...` uses them all, "
            "CUDA_VISIBLE_DEVICES=0 shows one"
        )
    return state


@contextmanager
def quiet() -> Iterator[None]:
    """Libraries say nothing that nobody can act upon; what can be is an error of ours."""
    from datasets.utils import logging as data_logging
    from transformers.utils import logging

    before, data_before = logging.get_verbosity(), data_logging.get_verbosity()
    logging.set_verbosity_error()
    data_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            # peft and trl read settings of transformers by their older names.
            warnings.filterwarnings("ignore", r".*is_gradient_checkpointing", FutureWarning)
            yield
    finally:
        logging.set_verbosity(before)
        data_logging.set_verbosity(data_before)


@contextmanager
def explained(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Errors of the training itself, in a line each; ``folder`` is what it writes to."""
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except CaptionSourceError as error:
        # From a process that decodes images it comes with a traceback, its own message last.
        line = str(error).strip().splitlines()[-1]
        raise CaptionSourceError(line.partition("CaptionSourceError: ")[2] or line) from None
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"{first_line(error)}: lower optimisation.device_batch_size; the same command goes on "
            f"from the last checkpoint"
        ) from None
    except BrokenPipeError:  # of the terminal
        raise
    except (OSError, SafetensorError) as error:
        told = getattr(error, "strerror", None) or first_line(error)
        raise RunFolderError(
            f"{folder} cannot be written: {told}; the same command goes on from what is finished"
        ) from None
