"""A change that neither size nor the ends of a model's file tell of."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

__all__ = ["change_a_tensor"]


def change_a_tensor(file: Path, part: str = "") -> str:
    """Negate a tensor of a safetensors file in place, size and time of change kept; its name.

    It lies more than a MiB from both ends of the file.
    """
    before = file.stat()
    with file.open("r+b") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        for name, tensor in sorted(header.items()):
            start, end = (8 + length + offset for offset in tensor["data_offsets"])
            if part in name and start >= 2**20 and end <= before.st_size - 2**20:
                break
        else:
            raise AssertionError(f"{file} has no such tensor in its middle")
        width = {"F16": 2, "BF16": 2, "F32": 4}[tensor["dtype"]]
        stream.seek(start)
        data = bytearray(stream.read(end - start))
        data[width - 1 :: width] = bytes(byte ^ 0x80 for byte in data[width - 1 :: width])
        stream.seek(start)
        stream.write(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    return str(name)
