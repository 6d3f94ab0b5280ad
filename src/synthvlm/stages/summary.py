"""What a stage reports: a summary for people, and what its workers did as events of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthvlm.engines.base import ShardResult, WorkerChange

if TYPE_CHECKING:
    from synthvlm.engines.base import Update
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["StageSummary", "record_update"]


@dataclass(frozen=True, slots=True)
class StageSummary:
    """What a stage did in this invocation.

    Attributes:
        stage: Its name.
        shards: All its shards.
        reused: Shards that were already up to date.
        counts: What was done, e.g. images generated.
        seconds: Wall time.
        waited: Share of the workers' time in which the generator waited; None where it did nothing.
        set_aside: Shards that were given up because their workers died.
        written: Files on the data set as a whole that were written anew.
        removed: Files of ``dataset/`` that were removed, because no part of it has them.
    """

    stage: str
    shards: int
    reused: int
    counts: Mapping[str, int]
    seconds: float
    waited: float | None = None
    set_aside: Sequence[int] = ()
    written: Sequence[str] = ()
    removed: Sequence[str] = ()


def describe(summary: StageSummary) -> str:
    """One line on what the stage did, and what it reused."""
    counts = summary.counts
    if summary.stage == "measure":
        done = f"{counts['read']:,} captions read"
    elif summary.stage == "curate":
        done = f"{counts['kept']:,} of {counts['captions']:,} captions kept"
    elif summary.stage == "generate":
        more = {
            "regenerated": "regenerated",
            "carried": "kept from before",
            "unsafe": "unsafe",
            "skipped": "not needed",
            "rejected": "below a minimum",
            "outranked": "outranked",
            "failed": "failed",
            "pending": "pending",
        }
        parts = [f"{counts[name]:,} {words}" for name, words in more.items() if counts[name]]
        if counts["captions_rejected"]:
            parts.append(f"{counts['captions_rejected']:,} captions without a pair, all rejected")
        if summary.waited is not None:
            parts.append(f"the generator waited {summary.waited:.0%} of the time")
        if summary.set_aside:
            parts.append(f"{len(summary.set_aside):,} shards set aside")
        done = ", ".join([f"{counts['generated']:,} candidates generated", *parts])
    elif summary.stage == "select":
        done = f"{counts['selected']:,} of {counts['pairs']:,} pairs selected"
        if "marked" in counts:
            done += f", {counts['marked']:,} left out as marked"
    else:
        parts = [f"{counts['exported']:,} pairs exported"]
        if summary.written:
            *others, last = summary.written
            parts.append(f"{', '.join(others)} and {last} written" if others else f"{last} written")
        if summary.removed:
            first, number = summary.removed[0], len(summary.removed)
            which = first if number == 1 else f"{number:,} files, {first} ..."
            parts.append(f"removed as no part of it: {which}")
        done = ", ".join(parts)
    if (
        summary.shards
        and summary.reused == summary.shards
        and not (summary.written or summary.removed)
    ):
        return f"{done} (up to date, nothing to do)"
    reused = f", {summary.reused:,} of {summary.shards:,} shards reused" if summary.reused else ""
    return f"{done} ({summary.seconds:.1f} s{reused})"


def record_update(run: RunFolder, stage: str, update: Update, **facts: Any) -> None:
    """Record an event: a shard is finished or set aside, or a worker started or ended.

    Args:
        run: The run folder.
        stage: The stage that the engine works on.
        update: What the engine reported.
        **facts: Further values of the event.
    """
    if isinstance(update, ShardResult):
        run.event(
            "shard",
            stage=stage,
            shard=update.shard,
            worker=update.worker,
            seconds=update.seconds,
            generation_seconds=update.generation_seconds,
            **update.counts,
            **update.details,
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
