"""The device and precision that a recipe or an option stands for here."""

from __future__ import annotations

import gc
import os
import re

from synthvlm.errors import ModelError, first_line

__all__ = ["empty_caches", "resolve_device", "resolve_dtype", "usable_cores"]


def resolve_device(device: str) -> str:
    """The device that ``auto`` stands for here: a GPU if there is one.

    Raises:
        ModelError: It is not known, or there is no GPU of that number.
    """
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"the device {device!r} is not known: {first_line(error)}") from error
    number = re.fullmatch(r"cuda:(\d+)", device)
    if number is not None and 0 < torch.cuda.device_count() <= int(number[1]):
        raise ModelError(
            f"the device {device} is not there: this process has {torch.cuda.device_count()} GPUs, "
            f"counted from 0; each of several workers has one of its own, which auto finds"
        )
    return device


def resolve_dtype(dtype: str, device: str) -> str:
    """The dtype that ``auto`` stands for: half precision on a GPU, single elsewhere."""
    if dtype != "auto":
        return dtype
    return "float16" if resolve_device(device).startswith("cuda") else "float32"


def usable_cores() -> int:
    """The number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def empty_caches() -> None:
    """Give back the memory that torch holds in reserve."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
