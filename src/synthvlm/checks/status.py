"""``synthvlm status``: how a run is doing, told from its folder alone, so on any machine."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from synthvlm.checks.done_markers import Candidates, DoneMarkers, StageShards
from synthvlm.checks.opened_run import opened_run
from synthvlm.progress.stage_state import StageState, duration, set_aside, set_aside_notices
from synthvlm.progress.terminal import printable

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["Holder", "Status", "show_status", "status", "watch"]

#: A run beats every 10 seconds; a file system may take its time to show it.
_DEAD_S = 60.0


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds the folder, as its lock tells.

    Attributes:
        host: The name of its machine.
        pid: Its number there.
        since: When it began, in seconds of its own wall clock; None: not told.
        beat: Changes as long as it lives.
        beat_time: When it last beat, in seconds of its own wall clock; None: not told.
        silent_s: For how long its beat has not changed, as far as it was watched.
    """

    host: str
    pid: int | None
    since: float | None
    beat: Any
    beat_time: float | None
    silent_s: float = 0.0

    @property
    def seems_dead(self) -> bool:
        """Whether it has been silent for longer than a live one is."""
        return self.silent_s >= _DEAD_S


@dataclass(frozen=True, slots=True)
class Status:
    """How a run is doing.

    Attributes:
        url: The run folder.
        holder: Who works in it; None: nobody.
        state: What that process does, at most some 10 seconds old; None: not told.
        stages: Shards of each stage.
        candidates: None while the process at work tells better, or before curation.
        set_aside: Events of the shards that are set aside.
        silent: Events of the workers at work that may hang.
        next: The stage that the next run begins with; None: all are done.
    """

    url: str
    holder: Holder | None
    state: StageState | None
    stages: tuple[StageShards, ...]
    candidates: Candidates | None
    set_aside: tuple[Mapping[str, Any], ...]
    silent: tuple[Mapping[str, Any], ...]
    next: str | None

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = asdict(self)
        if self.holder is not None:
            values["holder"]["seems_dead"] = self.holder.seems_dead
        return values

    def text(self) -> str:
        """Lines for people."""
        lines = [f"{self.url}: {self._who()}"]
        if self.state is not None:
            lines.append(f"{self.state.stage}: {self.state.text()}")
        lines += [
            f"worker {event.get('worker')} may hang (told {_moment(float(event['time']))}): "
            f"{event.get('problem')}"
            for event in self.silent
        ]
        lines += ["", "shards done:"]
        width = max(len(stage.stage) for stage in self.stages)
        for stage in self.stages:
            of = f" of {stage.total:,}" if stage.total is not None else ""
            lines.append(f"  {stage.stage:<{width}}  {stage.done:,}{of}")
        if self.candidates is not None:
            done, total, failed = (f"{n:,}" for n in asdict(self.candidates).values())
            told = f", {failed} failed" if self.candidates.failed else ""
            lines += ["", f"candidates: {done} of {total} done{told}"]
        lines += set_aside_notices(self.set_aside)
        return "\n".join([*lines, "", self._advice()])

    def _who(self) -> str:
        holder = self.holder
        if holder is None:
            return "not running"
        who = f"on {holder.host}" + (f", process {holder.pid}" if holder.pid is not None else "")
        if holder.since is not None:
            who += f", since {_moment(holder.since)}"
        if holder.seems_dead:
            return f"seems dead: {who}, silent for {duration(holder.silent_s)}"
        return f"running {who}"

    def _advice(self) -> str:
        if self.holder is not None and not self.holder.seems_dead:
            sure = "whether it lives, --watch tells"
            if self.holder.beat_time is None:
                return sure
            ago = duration(max(0.0, time.time() - self.holder.beat_time))
            return f"last heartbeat {ago} ago by its own clock; {sure}"
        if self.next is None:
            return "all stages are done"
        return f"{self.next} is next; resume: synthvlm run --out {shlex.quote(self.url)}"


def status(run: RunFolder, recipe: Recipe) -> Status:
    """Look at a run once; nothing is written, and no data is read.

    Args:
        run: The run folder.
        recipe: The one that the folder holds.

    Raises:
        RunFolderError: It cannot be read.
    """
    lock = run.lock_info()
    state = None if lock is None else StageState.of(lock.get("state"))
    markers = DoneMarkers(run, recipe)
    events = run.events()
    told = state is not None and state.stage == "generate"
    candidates = None if told else markers.candidates()
    return Status(
        url=run.url,
        holder=None if lock is None else _holder(lock),
        state=state,
        stages=tuple(markers.stages()),
        candidates=candidates,
        set_aside=tuple(set_aside(events)),
        silent=() if lock is None else tuple(_silent(events)),
        next=markers.next_stage(candidates),
    )


def watch(
    run: RunFolder,
    recipe: Recipe,
    every: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Status]:
    """Look again and again, until nobody works in the folder, or who does is silent too long.

    Args:
        run: The run folder.
        recipe: The one that the folder holds.
        every: Seconds between looks.
        clock: Seconds that only grow.
        sleep: Waits so many seconds.
    """
    heard: Any = None
    since = clock()
    while True:
        found = status(run, recipe)
        if found.holder is None:
            yield found
            return
        if found.holder.beat != heard:
            heard, since = found.holder.beat, clock()
        holder = replace(found.holder, silent_s=clock() - since)
        yield replace(found, holder=holder)
        if holder.seems_dead:
            return
        sleep(every)


def show_status(out: str, *, follow: bool = False, as_json: bool = False) -> None:
    """Print the status of a run, once or (``follow``) until the run ends.

    Raises:
        RunFolderError: It is no run folder.
    """
    run, recipe = opened_run(out)
    looks = watch(run, recipe) if follow else iter([status(run, recipe)])
    if as_json:
        for look in looks:
            print(json.dumps(look.values()), flush=True)
    elif follow and sys.stdout.isatty():
        _show_live(looks)
    else:
        for look in looks:
            print(printable(look.text()) + ("\n" if follow else ""), flush=True)


def _show_live(looks: Iterator[Status]) -> None:
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False) as live:
        for look in looks:
            live.update(Text(look.text()), refresh=True)


def _holder(lock: Mapping[str, Any]) -> Holder:
    pid, since, beat = lock.get("pid"), lock.get("since"), lock.get("beat")
    return Holder(
        host=str(lock.get("host") or "another machine"),
        pid=pid if isinstance(pid, int) else None,
        since=float(since) if isinstance(since, int | float) else None,
        beat=beat,
        beat_time=float(beat) if isinstance(beat, int | float) else None,
    )


def _silent(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The last events of workers that may hang, as far as the last run has told."""
    found: dict[str, Mapping[str, Any]] = {}
    for event in events:
        worker = str(event.get("worker"))
        if event.get("event") in ("run", "shards"):
            found.clear()
        elif event.get("event") in ("worker", "shard"):
            found.pop(worker, None)
            if event.get("state") == "silent":
                found[worker] = event
    return list(found.values())


def _moment(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return "a time that its clock has wrong"
