"""Where shards run; what is done with them is the stages' business."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synthvlm.engines.base import Engine

__all__ = ["make_engine"]


def make_engine(workers: int | None = None) -> Engine:
    """Shards in this process with one worker, else in a process for each.

    Args:
        workers: How many; by default one for each GPU, or one where there is none.
    """
    from synthvlm.engines.local import LocalEngine, gpu_count

    wanted = workers if workers is not None else gpu_count()
    if wanted <= 1:
        return LocalEngine()
    from synthvlm.engines.processes import ProcessEngine

    return ProcessEngine(wanted)
