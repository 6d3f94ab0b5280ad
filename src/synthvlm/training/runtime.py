"""The libraries of training: whether they are installed, their messages and their errors."""

from __future__ import annotations

import os
import re
import signal
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
    SynthVLMError,
    first_line,
    is_out_of_memory,
)

__all__ = ["cpu_threads", "explained", "process_state", "quiet"]

#: What accelerate sets where weights lie in parts in several processes.
_SHARDED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism_config",
}

#: Torch's message about a process that decoded images and died.
_DEAD_WORKER = re.compile(r"DataLoader worker .*(killed by signal|exited unexpectedly)")


def process_state() -> Any:
    """Accelerate's ``PartialState``: this process, the others, the device.

    Raises:
        MissingExtraError: A library of training is not installed.
        EngineError: There are several GPUs, and one process; or weights would lie in parts, which
            are not put together when they are saved.
    """
    for variable, name in _SHARDED.items():
        if os.environ.get(variable, "").lower() in ("1", "true", "yes", "y", "on", "t"):
            raise EngineError(
                f"accelerate is set to {name}, with which the model cannot be saved whole: start "
                f"`accelerate launch --multi_gpu -m synthvlm train ...`; LoRA needs less memory"
            )
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
def cpu_threads(count: int) -> Iterator[None]:
    """Compute with so many threads: sums over more parts are rounded otherwise."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence libraries; what a user can act upon is an error of ours."""
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
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    except KeyboardInterrupt:
        # SIGTERM to all of a job ends processes that decode images, too. Torch, which takes this
        # signal for itself, would raise for one of them in the middle of the exit.
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)
        raise
    except CaptionSourceError as error:
        # From a process that decodes images it comes with a traceback, its own message last.
        line = str(error).strip().splitlines()[-1]
        raise CaptionSourceError(line.partition("CaptionSourceError: ")[2] or line) from None
    except BrokenPipeError:  # of the terminal
        raise
    except Exception as error:
        explanation = _explain(error, folder)
        if explanation is None:
            raise
        raise explanation from None


def _explain(error: Exception, folder: str | os.PathLike[str]) -> SynthVLMError | None:
    """What a library's error means; None where that is not known."""
    from safetensors import SafetensorError

    if is_out_of_memory(error):
        return OutOfMemoryError(
            f"out of memory ({first_line(error)}): lower optimisation.device_batch_size or set "
            f"optimisation.gradient_checkpointing; the same command goes on from the last "
            f"checkpoint"
        )
    is_dead = isinstance(error, RuntimeError) and _DEAD_WORKER.search(str(error))
    if is_dead or isinstance(error, ConnectionError):
        return EngineError(
            f"a process that decodes images died, perhaps for lack of (shared) memory: lower "
            f"image_workers, 0 for none ({first_line(error)})"
        )
    if isinstance(error, (OSError, SafetensorError)):
        problem = getattr(error, "strerror", None) or first_line(error)
        return RunFolderError(
            f"{folder} cannot be written: {problem}; the same command goes on from what is finished"
        )
    return None
