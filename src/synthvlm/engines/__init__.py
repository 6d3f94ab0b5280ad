"""Where shards run; what is done with them is the stages' business."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthvlm.errors import EngineError

if TYPE_CHECKING:
    from synthvlm.engines.base import Engine

__all__ = ["ENGINES", "make_engine"]

#: The names of the engines.
ENGINES = ("local", "ray")


def make_engine(name: str = "local", workers: int | None = None) -> Engine:
    """The engine of a name.

    Args:
        name: ``local``: in this process with one worker, else in a process for each. ``ray``:
            actors on a Ray cluster.
        workers: How many; by default one for each GPU, or one (on Ray one for each node) where
            there is none.

    Raises:
        EngineError: There is no such engine, or no cluster.
        MissingExtraError: Ray is not installed.
    """
    if name == "ray":
        from synthvlm.engines.ray_actors import RayEngine

        return RayEngine(workers)
    if name != "local":
        raise EngineError(f"there is no engine {name!r}; there are {', '.join(ENGINES)}")
    from synthvlm.engines.local import LocalEngine, gpu_count

    wanted = workers if workers is not None else gpu_count()
    if wanted <= 1:
        return LocalEngine()
    from synthvlm.engines.processes import ProcessEngine

    return ProcessEngine(wanted)
