"""Shards that were given up, for their workers died: the run's log of events tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["set_aside", "set_aside_notices"]


def set_aside(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The events of shards that were set aside and not done since, in the order of the shards."""
    lost: dict[tuple[str, int], Mapping[str, Any]] = {}
    for event in events:
        if event.get("event") in ("set_aside", "shard"):
            key = str(event.get("stage")), int(event.get("shard", -1))
            lost.pop(key, None)
            if event["event"] == "set_aside":
                lost[key] = event
        elif event.get("event") == "shards":
            left = set(event.get("set_aside", ()))
            for key in [key for key in lost if key[0] == event.get("stage")]:
                if key[1] not in left:
                    del lost[key]
    return [lost[key] for key in sorted(lost)]


def set_aside_notices(events: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line on each shard that is set aside, for people."""
    return [
        f"Shard {event.get('shard')} of the stage {event.get('stage')} is set aside: "
        f"its workers died {event.get('deaths')} times ({event.get('problem')}). Its "
        f"{event.get('candidates', 0):,} candidates are missing; the next run tries it again."
        for event in set_aside(events)
    ]
