"""Peak memory of a piece of code, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

# Not ``ru_maxrss``, which a child begins with at its parent's peak.
_PROGRAM = """
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

{function}
run(*{small!r})
before = peak()
result = run(*{large!r})
print(result, peak() - before)
"""


def growth(function: str, small: tuple[object, ...], large: tuple[object, ...]) -> tuple[int, int]:
    """Call ``run``, defined in ``function``, with arguments for little, then for much data.

    Returns:
        What it returned for much data, and by how many KiB that raised the peak.
    """
    program = _PROGRAM.format(function=function, small=small, large=large)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    result, grown = map(int, done.stdout.split())
    return result, grown
