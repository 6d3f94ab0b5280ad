"""What it takes to know a model's weights: a file hashed from the disk, from memory, and known.

    python benchmarks/model_hashing.py [--mb 4096] [--folder /tmp]

The file holds random bytes. For "from the disk" its pages are dropped from memory first, as far
as the system lets go of them. "known" looks its hash up in the cache, as a new process does.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from synthvlm.models import file_hashes

MB = 10**6
#: After that a file's hash is kept.
SETTLING_S = 2.5


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=4096, help="size of the file in 10^6 bytes")
    parser.add_argument("--folder", type=Path, help="where it is written")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        file = Path(folder) / "model.safetensors"
        write(file, args.mb)
        os.environ["SYNTHVLM_CACHE"] = str(Path(folder) / "unused")
        measured(file, "from the disk", args.mb)
        os.environ["SYNTHVLM_CACHE"] = str(Path(folder) / "cache")
        time.sleep(SETTLING_S)
        measured(file, "from memory", args.mb)
        measured(file, "known", args.mb)


def write(file: Path, mb: int) -> None:
    with file.open("wb") as stream:
        for _ in range(mb):
            stream.write(os.urandom(MB))
        stream.flush()
        os.fsync(stream.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measured(file: Path, how: str, mb: int) -> None:
    file_hashes._remembered.clear()
    began, processor = time.perf_counter(), time.process_time()
    file_hashes.file_hash(file)
    seconds, spent = time.perf_counter() - began, time.process_time() - processor
    gigabytes = mb / 1000
    print(
        f"{how:<14}  {seconds:8.4f} s, {seconds / gigabytes:.4f} s per GB "
        f"(processor {spent / gigabytes:.4f})"
    )


if __name__ == "__main__":
    main()
