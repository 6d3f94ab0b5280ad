"""Engines: where shards run. What is done with a shard is up to the stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthvlm.errors import EngineError

if TYPE_CHECKING:
    from synthvlm.engines.base import Engine

__all__ = ["ENGINES", "make_engine"]

#: The names of the engines.
ENGINES = ("local", "ray")


def make_engine(name: str = "local", workers: int | None = None) -> Engine:
    """Make an engine by its name.

    Args:
        name: ``local``: one worker runs in this process, several run in a process each.
            ``ray``: workers are actors on a Ray cluster.
        workers: Number of workers; by default one per GPU. Without GPUs the default is one worker,
            on Ray one per node.

    Raises:
        EngineError: There is no engine of that name, or no Ray cluster.
        MissingExtraError: Ray is not installed.
    """
    if name == "ray":
        from synthvlm.engines.ray_actors import RayEngine

        return RayEngine(workers)
    if name != "local":
        raise EngineError(f"unknown engine {name!r} (valid: {', '.join(ENGINES)})")
    from synthvlm.engines.base import LocalEngine, gpu_count

    count = workers if workers is not None else gpu_count()
    if count <= 1:
        return LocalEngine()
    from synthvlm.engines.processes import ProcessEngine

    return ProcessEngine(count)
