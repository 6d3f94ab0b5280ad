"""How long the stages of a run took, and its scorers, from the events of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from synthvlm.progress.stage_state import set_aside

__all__ = ["Event", "ScorerTime", "StageTime", "scorer_times", "stage_times"]

_UNITS = {"measure": "captions", "curate": "captions", "select": "pairs", "export": "pairs"}
_GENERATE = "generate"

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StageTime:
    """Wall time and work of a stage; ``note`` says what was done and what was reused."""

    stage: str
    seconds: float
    items: int
    unit: str
    note: str

    @property
    def rate(self) -> float | None:
        """Items per second; None if there is no time or no item."""
        return self.items / self.seconds if self.seconds > 0 and self.items else None


@dataclass(frozen=True, slots=True)
class ScorerTime:
    """What a scorer did in all attempts.

    Attributes:
        scorer: Its name.
        device: Where it worked.
        batches: Number of batches.
        images: Images scored.
        seconds: Of its work, added up over threads and workers.
        share: The same over the seconds that generators were busy; None where none was.
    """

    scorer: str
    device: str
    batches: int
    images: int
    seconds: float
    share: float | None

    @property
    def rate(self) -> float | None:
        """Images per second of its work."""
        return self.images / self.seconds if self.seconds > 0 else None


def stage_times(events: Iterable[Event], done: Mapping[str, int]) -> list[StageTime]:
    """The times of each stage that is done or has events.

    Args:
        events: From ``RunFolder.events``.
        done: Number of done shards of each stage, in the order of the stages.
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
            times.append(StageTime(stage, 0.0, 0, "", "done; the log has no times for it"))
    return times


def scorer_times(events: Iterable[Event]) -> Iterator[ScorerTime]:
    """What each scorer did, of the events of shards that say so."""
    busy = 0.0
    work_by_scorer: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        if event.get("event") == "shard" and "scorers" in event:
            busy += float(event.get("generation_seconds", 0))
            for name, work in event["scorers"].items():
                work_by_scorer.setdefault(name, []).append(work)
    for name, parts in work_by_scorer.items():
        devices = ", ".join(sorted({str(part["device"]) for part in parts}))
        batches, images = (sum(int(part[key]) for part in parts) for key in ("batches", "images"))
        seconds = sum(float(part["seconds"]) for part in parts)
        share = seconds / busy if busy else None
        yield ScorerTime(name, devices, batches, images, seconds, share)


def _whole(stage: str, entries: list[Event]) -> StageTime:
    """A stage that processes everything in each pass: the last pass is shown."""
    last = entries[-1]
    note = f"last of {len(entries)} passes" if len(entries) > 1 else "one pass"
    unit = _UNITS.get(stage, "items")
    return StageTime(stage, float(last.get("seconds", 0)), int(last.get("rows", 0)), unit, note)


def _sharded(stage: str, entries: list[Event], lost: int) -> StageTime:
    """A stage that works shard by shard: the shards of all attempts are summed."""
    names = ("generated", "regenerated", "carried", "failed")
    sums = Counter({name: sum(int(e.get(name, 0)) for e in entries) for name in names})
    items = sums["generated"] + sums["regenerated"]
    unit = "images" if stage == _GENERATE else "items"
    parts = [f"{len(entries):,} shard attempts", f"{sums['generated']:,} candidates generated"]
    if sums["regenerated"]:
        parts.append(f"{sums['regenerated']:,} winners regenerated from their seeds")
    if sums["carried"]:
        parts.append(f"{sums['carried']:,} reused from earlier attempts")
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
    busy = sum(float(e.get("generation_seconds", 0)) for e in entries)
    if working_s and busy:
        parts.append(f"the generator waited {max(0.0, 1 - busy / working_s):.1%} of the time")
    return StageTime(stage, wall_s, items, unit, "; ".join(parts))


def _turns(entries: list[Event]) -> list[tuple[float, float]]:
    """Start and end of the work on each shard, in seconds, sorted.

    A worker works on one shard at a time, but reports it up to one shard later, when it is
    committed. So the shards of a worker are laid end to end, backwards from its last one.
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
    """Seconds in which at least one worker was busy, and how many were busy at most at once."""
    # At equal times, ends (-1) come before starts: a worker that goes on is not counted twice.
    changes = sorted([(end, -1) for _, end in turns] + [(begin, 1) for begin, _ in turns])
    total, since = 0.0, 0.0
    now = most = 0
    for time, change in changes:
        if now:
            total += time - since
        now, since = now + change, time
        most = max(most, now)
    return total, most
