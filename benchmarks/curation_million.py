"""Curate a million captions: wall time and peak memory of `synthvlm curate`.

    python benchmarks/curation_million.py CAPTIONS.txt [--captions 1000000] [--set KEY=VALUE]

The captions are made by putting halves of real ones together: few are equal, and of a million about
a fifth are near-duplicates of an earlier one. `--write FILE` makes them for benchmarks/curation.py.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random


def write_captions(source: Path, count: int, target: Path) -> None:
    lines = [line.split() for line in source.read_text(encoding="utf-8").splitlines()]
    rng = Random(0)
    with target.open("w", encoding="utf-8") as file:
        for _ in range(count):
            first, second = rng.choice(lines), rng.choice(lines)
            halves = first[: len(first) // 2] + second[len(second) // 2 :]
            file.write(" ".join(halves) + "\n")


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="real captions, one a line")
    parser.add_argument("--captions", type=int, default=1_000_000)
    parser.add_argument("--set", action="append", default=[], help="one more change of the recipe")
    parser.add_argument("--write", type=Path, help="write the captions there, and do no more")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    if args.write is not None:
        write_captions(args.source, args.captions, args.write)
        return
    with tempfile.TemporaryDirectory() as folder:
        captions = Path(folder) / "captions.txt"
        write_captions(args.source, args.captions, captions)
        command = [sys.executable, "-m", "synthvlm", "curate", "tiny"]
        command += ["--captions", str(captions), "--out", f"{folder}/run"]
        command += ["--set", "run.shard_size=2000"]
        command += ["--set", "curation.rules.personal_data={max: 0}"]
        command += ["--set", "curation.rules.word_count={min: 4, max: 60}"]
        for change in args.set:
            command += ["--set", change]
        began = time.monotonic()
        subprocess.run(command, check=True)
        seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{args.captions:,} captions: {seconds:.1f} s, peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
