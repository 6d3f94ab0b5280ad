"""What libraries say where a device's memory does not suffice."""

from __future__ import annotations

import errno
import gc

__all__ = ["empty_caches", "is_out_of_memory"]

#: Beside torch.OutOfMemoryError: the CPU's allocator, oneDNN, cuBLAS, and the driver when asked.
_SIGNS = (
    "DefaultCPUAllocator",
    "not enough memory: you tried to allocate",
    "could not create a primitive",
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of a library says that the device's memory did not suffice."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def empty_caches() -> None:
    """Give back the memory that torch holds in reserve."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
