"""How long each stage took, from the run's log of events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from synthvlm.progress.set_aside import set_aside

__all__ = ["StageTime", "stage_times"]

_UNITS = {"measure": "captions", "curate": "captions", "select": "pairs", "export": "pairs"}
_GENERATE = "generate"

Event = Mapping[str, Any]


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


def stage_times(events: Iterable[Event], done: Mapping[str, int]) -> list[StageTime]:
    """One row for each stage that is done or left events.

    Args:
        events: As ``RunFolder.events`` gives them.
        done: Done shards of each stage, in the order of the stages.
    """
    passes: dict[str, list[Event]] = {stage: [] for stage in done}
    lost = Counter[str]()
    events = list(events)
    for event in events:
        if event.get("event") in ("stage", "shard"):
            passes.setdefault(str(event.get("stage")), []).append(event)
    for event in set_aside(events):
        lost[str(event.get("stage"))] += 1
    times = []
    for stage, entries in passes.items():
        shards = [entry for entry in entries if entry["event"] == "shard"]
        if shards:
            times.append(_sharded(stage, shards, lost[stage]))
        elif entries:
            times.append(_whole(stage, entries))
        elif done.get(stage):
            times.append(StageTime(stage, 0.0, 0, "", "done; the log holds no times of it"))
    return times


def _whole(stage: str, entries: list[Event]) -> StageTime:
    """A stage that goes over everything in each pass: the last pass is the one to show."""
    last = entries[-1]
    note = f"last of {len(entries)} passes" if len(entries) > 1 else "one pass"
    unit = _UNITS.get(stage, "items")
    return StageTime(stage, float(last.get("seconds", 0)), int(last.get("rows", 0)), unit, note)


def _sharded(stage: str, entries: list[Event], lost: int) -> StageTime:
    """A stage that works shard by shard: all shards of all attempts are summed."""
    names = ("generated", "regenerated", "carried", "failed")
    sums = Counter({name: sum(int(e.get(name, 0)) for e in entries) for name in names})
    items = sums["generated"] + sums["regenerated"]
    unit = "images" if stage == _GENERATE else "items"
    parts = [f"{len(entries):,} shard attempts", f"{sums['generated']:,} candidates generated"]
    if sums["regenerated"]:
        parts.append(f"{sums['regenerated']:,} winners drawn again from their seeds")
    if sums["carried"]:
        parts.append(f"{sums['carried']:,} carried over from earlier attempts, not made again")
    if sums["failed"]:
        parts.append(f"{sums['failed']:,} failed")
    if lost:
        parts.append(f"{lost:,} shards set aside")
    working_s = sum(float(e.get("seconds", 0)) for e in entries)
    wall_s, workers = _wall_and_workers(_turns(entries))
    if workers > 1 and items:
        parts.append(
            f"up to {workers} workers at once, {items / working_s:.3g} {unit} a second each"
        )
    generation_seconds = sum(float(e.get("generation_seconds", 0)) for e in entries)
    if working_s and generation_seconds:
        parts.append(
            f"the generator waited {max(0.0, 1 - generation_seconds / working_s):.1%} of the time"
        )
    return StageTime(stage, wall_s, items, unit, "; ".join(parts))


def _turns(entries: list[Event]) -> list[tuple[float, float]]:
    """Begin and end of each shard's work, in seconds, sorted.

    A worker has one shard at a time, and tells that it is committed up to one shard later: so
    its shards are laid end to end, backwards from its last.
    """
    turns: list[tuple[float, float]] = []
    following: dict[Any, float] = {}
    for entry in reversed(entries):
        worker = entry.get("worker")
        end = min(float(entry["time"]), following.get(worker, float("inf")))
        following[worker] = end - float(entry.get("seconds", 0))
        if following[worker] < end:
            turns.append((following[worker], end))
    return sorted(turns)


def _wall_and_workers(turns: list[tuple[float, float]]) -> tuple[float, int]:
    """Time in which at least one worker was at work, and how many were at most at once."""
    changes = sorted([(end, -1) for _, end in turns] + [(begin, 1) for begin, _ in turns])
    total, since = 0.0, 0.0
    now = most = 0
    for at, change in changes:
        if now:
            total += at - since
        now, since = now + change, at
        most = max(most, now)
    return total, most
