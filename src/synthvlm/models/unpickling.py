"""Turns one pickled file of weights into safetensors, in a process that can do nothing else.

Run as a script, of open files: ``python -I unpickling.py INPUT_FD OUTPUT_FD MAX_BYTES``. It imports
torch, gives up all rights, and then reads. The last line of its output is the JSON of the names, or
of ``{"error": ...}``.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import platform
import re
import struct
import sys
from collections.abc import Mapping
from pickle import UnpicklingError
from typing import IO, Any

__all__ = ["give_up_rights", "main", "read_tensors", "write_safetensors"]

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO, EPERM
#: By machine: its number in seccomp, and the calls that are refused. Another program, process or
#: signal, a socket, and whatever changes files by their names; limits refuse to open anything.
_CALLS = {
    "x86_64": (
        0xC000003E,
        (
            *(41, 42, 44, 56, 57, 58, 59, 62, 76, 82, 83, 84, 85, 86, 87, 88, 90, 92, 94, 101),
            *(132, 133, 155, 161, 165, 166, 188, 189, 200, 234, 235, 250, 258, 259, 260, 261),
            *(263, 264, 265, 266, 268, 280, 298, 310, 311, 316, 321, 322, 323, 424, 425),
            *(435, 452),
        ),
    ),
    "aarch64": (
        0xC00000B7,
        (
            *(5, 6, 33, 34, 35, 36, 37, 38, 39, 40, 41, 45, 51, 53, 54, 88, 117, 129, 130, 131),
            *(198, 203, 206, 219, 220, 221, 241, 270, 271, 276, 280, 281, 282, 424, 425, 435, 452),
        ),
    ),
}
_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
#: How torch names what a pickle asks for and must not have.
_ASKED = re.compile(r"GLOBAL ([\w.]+)")


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort),
        ("if_true", ctypes.c_ubyte),
        ("if_false", ctypes.c_ubyte),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


def give_up_rights(max_bytes: int) -> None:
    """Leave this process its open files, memory and processor time, and nothing else.

    It can open no file or socket, write no more than ``max_bytes`` to a file, and leave no core
    dump. On Linux it has no network, and where the processor is known here (x86-64, ARM) it can
    start no program or process, signal none, and change no file by its name.

    Raises:
        OSError: The system refuses the filter of calls, where the processor is known.
    """
    import resource

    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.unshare(_NEW_USER | _NEW_NETWORK)  # may be forbidden; the rest does not rely on it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    if sys.platform == "linux" and platform.machine() in _CALLS:
        _filter_calls(libc, *_CALLS[platform.machine()])


def _filter_calls(libc: Any, machine: int, calls: tuple[int, ...]) -> None:
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    count = len(calls)
    program = [
        _Instruction(load, 0, 0, 4),  # the machine
        _Instruction(equal, 0, count + 3, machine),
        _Instruction(load, 0, 0, 0),  # the call
        _Instruction(at_least, count + 1, 0, 0x40000000),  # of x86-64's second table
        *(_Instruction(equal, count - n, 0, call) for n, call in enumerate(calls)),
        _Instruction(give, 0, 0, _ALLOW),
        _Instruction(give, 0, 0, _REFUSE),
    ]
    array = (_Instruction * len(program))(*program)
    filled = _Program(len(program), ctypes.cast(array, ctypes.POINTER(_Instruction)))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(filled), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the system refuses a filter of calls (seccomp)")


def read_tensors(file: IO[bytes]) -> dict[str, Any]:
    """The tensors of a pickled file of weights, by name.

    Of a checkpoint of a training, those of its ``state_dict``.

    Raises:
        ValueError: It asks for something else, is damaged, or holds something else.
    """
    import torch

    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        asked = _ASKED.search(str(error))
        if asked is not None:
            raise ValueError(f"refused: it asks for {asked[1]}, which is no weight") from None
        # Torch's own advice for pickles that it refuses is to read them without its guard.
        reason = "" if isinstance(error, UnpicklingError) else f" ({str(error).partition('. ')[0]})"
        raise ValueError(f"it is damaged, or holds something else than weights{reason}") from None
    if isinstance(tensors, Mapping) and isinstance(tensors.get("state_dict"), Mapping):
        tensors = tensors["state_dict"]
    if not isinstance(tensors, Mapping) or not tensors:
        raise ValueError("it holds no tensors by name")
    for name, tensor in tensors.items():
        is_plain = (
            isinstance(tensor, torch.Tensor)
            and tensor.layout == torch.strided
            and str(tensor.dtype).removeprefix("torch.") in _DTYPES
        )
        if not isinstance(name, str) or not is_plain:
            raise ValueError(f"{str(name)[:100]!r} is no plain tensor")
    return dict(tensors)


def write_safetensors(file: IO[bytes], tensors: Mapping[str, Any]) -> None:
    """Write safetensors: the length of a JSON header, the header, the bytes of each tensor.

    Tensors that share memory are each written whole.
    """
    import torch

    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name, tensor in ordered:
        end = begin + tensor.numel() * tensor.element_size()
        kind = _DTYPES[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [begin, end]}
        begin = end
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    file.write(struct.pack("<Q", len(head)) + head)
    for _, tensor in ordered:
        if tensor.numel():
            file.write(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def main(source: int, target: int, max_bytes: int) -> None:
    """Convert from one open file to another; print the JSON of the names, or of an error."""
    import torch

    torch.set_num_threads(1)
    for is_zip in (True, False):  # what reading imports is imported now
        sample = io.BytesIO()
        torch.save({"a": torch.zeros(1)}, sample, _use_new_zipfile_serialization=is_zip)
        sample.seek(0)
        torch.load(sample, map_location="cpu", weights_only=True)
    try:
        give_up_rights(max_bytes)
        with os.fdopen(source, "rb") as read, os.fdopen(target, "wb") as write:
            tensors = read_tensors(read)
            write_safetensors(write, tensors)
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        print(json.dumps({"error": text}), flush=True)
        return
    print(json.dumps({"names": sorted(tensors)}), flush=True)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
