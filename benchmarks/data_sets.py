"""What `synthvlm convert` and `synthvlm diff` cost on data sets that no run made.

    python benchmarks/data_sets.py [--pairs 1000000] [--folder /tmp]

Two Parquet files of made-up captions and small PNG images (16 x 16, 800 bytes); of a thousand pairs
of the second, one is missing, one has another caption and one another image. Each command runs in a
process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scale import write_captions

_IMAGES = 512
#: Pairs of a row group.
_GROUP = 10_000
_SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        "caption": pa.string(),
        "score": pa.float64(),
    }
)


def made_images() -> list[bytes]:
    """Pictures of noise."""
    noise = np.random.default_rng(0)
    images = []
    for _ in range(_IMAGES):
        file = io.BytesIO()
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), np.uint8)).save(file, "PNG")
        images.append(file.getvalue())
    return images


def rows_of(
    captions: Sequence[str], first: int, images: Sequence[bytes], is_second: bool
) -> Iterator[dict[str, object]]:
    """Rows of one of the two files; the first caption has that number."""
    for number, caption in enumerate(captions, first):
        change = number % 1000 if is_second else None
        if change == 1:
            continue
        image = images[(number + (change == 3)) % _IMAGES]
        yield {
            "id": f"made-{number}",
            "image": {"bytes": image, "path": None},
            "caption": f"{caption} again" if change == 2 else caption,
            "score": 0.5,
        }


def write_data_set(path: Path, captions: Sequence[str], is_second: bool) -> None:
    """Write one of the two files, a row group in memory at a time."""
    images = made_images()
    with pq.ParquetWriter(path, _SCHEMA, use_dictionary=False) as file:
        for start in range(0, len(captions), _GROUP):
            rows = list(rows_of(captions[start : start + _GROUP], start, images, is_second))
            file.write_table(pa.Table.from_pylist(rows, _SCHEMA))


def measure(*arguments: str, folder: Path, code: int = 0) -> None:
    """Run a command of synthvlm, and print a row."""
    command = [sys.executable, "-m", "synthvlm", *arguments]
    with (folder / "shown.txt").open("wb") as shown:
        process = subprocess.Popen(command, cwd=folder, stdout=shown, stderr=shown)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != code:
        raise SystemExit((folder / "shown.txt").read_text("utf-8", "replace"))
    print(
        f"| `{' '.join(arguments)}` | {used.ru_utime:.1f} | {used.ru_stime:.1f} | "
        f"{used.ru_maxrss / 1024:.0f} |",
        flush=True,
    )


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary one")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    options = make_parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write_captions(options.pairs, folder / "captions.txt")
        captions = (folder / "captions.txt").read_text("utf-8").splitlines()
        write_data_set(folder / "a.parquet", captions, is_second=False)
        write_data_set(folder / "b.parquet", captions, is_second=True)
        print(f"{options.pairs:,} pairs\n")
        print("| command | seconds of CPU | in the kernel | peak memory, MB |")
        print("|---|---|---|---|")
        both = ("--format", "huggingface", "--format", "webdataset")
        measure("convert", "a.parquet", *both, "--to", "converted", folder=folder)
        measure("diff", "a.parquet", "b.parquet", folder=folder, code=1)


if __name__ == "__main__":
    main()
