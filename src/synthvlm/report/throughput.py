"""How long each stage took, from the run's log of events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["StageTime", "stage_times"]

_UNITS = {"measure": "captions", "curate": "captions", "select": "pairs", "export": "pairs"}
_GENERATE = "generate"


@dataclass(frozen=True, slots=True)
class StageTime:
    """Wall time and work of a stage; ``note`` says what was done anew and what was reused."""

    stage: str
    seconds: float
    items: int
    unit: str
    note: str

    @property
    def rate(self) -> float | None:
        """Items per second; None where there is nothing to divide."""
        return self.items / self.seconds if self.seconds > 0 and self.items else None


def stage_times(events: Iterable[dict[str, Any]], done: Mapping[str, int]) -> list[StageTime]:
    """One row for each stage that is done or left events.

    Args:
        events: As ``RunFolder.events`` gives them.
        done: Done shards of each stage, in the order of the stages.
    """
    passes: dict[str, list[dict[str, Any]]] = {stage: [] for stage in done}
    for event in events:
        if event.get("event") in ("stage", "shard"):
            passes.setdefault(str(event.get("stage")), []).append(event)
    times = []
    for stage, entries in passes.items():
        if entries and any(entry["event"] == "shard" for entry in entries):
            times.append(_sharded(stage, [e for e in entries if e["event"] == "shard"]))
        elif entries:
            times.append(_whole(stage, entries))
        elif done.get(stage):
            times.append(StageTime(stage, 0.0, 0, "", "done; the log holds no times of it"))
    return times


def _whole(stage: str, entries: list[dict[str, Any]]) -> StageTime:
    """A stage that goes over everything in each pass: the last pass is the one to show."""
    last = entries[-1]
    note = f"last of {len(entries)} passes" if len(entries) > 1 else "one pass"
    unit = _UNITS.get(stage, "items")
    return StageTime(stage, float(last.get("seconds", 0)), int(last.get("rows", 0)), unit, note)


def _sharded(stage: str, entries: list[dict[str, Any]]) -> StageTime:
    """A stage that works shard by shard: all shards of all attempts are summed."""
    names = ("generated", "regenerated", "carried", "failed")
    sums = Counter({name: sum(int(e.get(name, 0)) for e in entries) for name in names})
    parts = [f"{len(entries):,} shard attempts", f"{sums['generated']:,} candidates generated"]
    if sums["regenerated"]:
        parts.append(f"{sums['regenerated']:,} winners drawn again from their seeds")
    if sums["carried"]:
        parts.append(f"{sums['carried']:,} carried over from earlier attempts, not made again")
    if sums["failed"]:
        parts.append(f"{sums['failed']:,} failed")
    seconds = sum(float(e.get("seconds", 0)) for e in entries)
    drawing_s = sum(float(e.get("drawing_s", 0)) for e in entries)
    if seconds and drawing_s:
        parts.append(f"the generator waited {max(0.0, 1 - drawing_s / seconds):.1%} of the time")
    items = sums["generated"] + sums["regenerated"]
    unit = "images" if stage == _GENERATE else "items"
    return StageTime(stage, seconds, items, unit, "; ".join(parts))
