"""What a stage did, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["StageSummary"]


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
        set_aside: Shards that were given up, for their workers died.
    """

    stage: str
    shards: int
    reused: int
    counts: Mapping[str, int]
    seconds: float
    waited: float | None = None
    set_aside: Sequence[int] = ()


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
            "failed": "failed",
        }
        told = [f"{counts[name]:,} {words}" for name, words in more.items() if counts[name]]
        if summary.waited is not None:
            told.append(f"the generator waited {summary.waited:.0%} of the time")
        if summary.set_aside:
            told.append(f"{len(summary.set_aside):,} shards set aside")
        done = ", ".join([f"{counts['generated']:,} candidates generated", *told])
    elif summary.stage == "select":
        done = f"{counts['selected']:,} of {counts['pairs']:,} pairs selected"
    else:
        done = f"{counts['exported']:,} pairs exported"
    if summary.shards and summary.reused == summary.shards:
        return f"{done} (up to date, nothing to do)"
    reused = f", {summary.reused:,} of {summary.shards:,} shards reused" if summary.reused else ""
    return f"{done} ({summary.seconds:.1f} s{reused})"
