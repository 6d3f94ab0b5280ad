"""What engines tell, as events of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synthvlm.engines.base import ShardResult, WorkerChange

if TYPE_CHECKING:
    from synthvlm.engines.base import Update
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["note_update"]


def note_update(run: RunFolder, stage: str, update: Update, **facts: Any) -> None:
    """Note a finished shard, one that is set aside, or a worker's start or end; with facts."""
    if isinstance(update, ShardResult):
        run.event(
            "shard",
            stage=stage,
            shard=update.shard,
            worker=update.worker,
            seconds=update.seconds,
            generation_seconds=update.generation_seconds,
            **update.counts,
            **facts,
        )
    elif isinstance(update, WorkerChange):
        run.event(
            "worker",
            stage=stage,
            worker=update.worker,
            state=update.state,
            problem=update.problem,
            **facts,
        )
        if update.state in ("silent", "heard"):
            run.flush_events()  # for `synthvlm status`
    else:
        run.event(
            "set_aside",
            stage=stage,
            shard=update.shard,
            deaths=update.deaths,
            problem=update.problem,
            **facts,
        )
        run.flush_events()  # for `synthvlm status`
