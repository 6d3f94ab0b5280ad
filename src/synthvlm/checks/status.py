"""``synthvlm status``: the state of a run, from its folder alone, so on any machine."""

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
from synthvlm.progress.stage_state import StageState, duration, set_aside, set_aside_notices
from synthvlm.run.kept_recipe import open_folder
from synthvlm.safe_text import printable
from synthvlm.stages.current import CurrentWork
from synthvlm.stages.generation.target import STAGE as TARGET
from synthvlm.stages.generation.target import shortfall

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["Candidates", "Holder", "StageShards", "Status", "show_status", "status", "watch"]

#: A run sends a heartbeat every 10 seconds, which a file system may show with a delay.
_DEAD_S = 60.0
#: What may come next where the selection is up to date.
_SELECTED = ("export", "report", None)


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds the folder, according to the lock.

    Attributes:
        host: Name of its machine.
        pid: Its process id there.
        since: When it started, in seconds by its own wall clock; None if not known.
        beat: Its last heartbeat; changes as long as it is alive.
        beat_time: Time of that heartbeat, in seconds by its own wall clock; None if not known.
        silent_s: Seconds since the heartbeat last changed, as far as it was watched.
    """

    host: str
    pid: int | None
    since: float | None
    beat: Any
    beat_time: float | None
    silent_s: float = 0.0

    @property
    def seems_dead(self) -> bool:
        """Whether it has been silent for longer than any process that is alive."""
        return self.silent_s >= _DEAD_S


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a run.

    Attributes:
        url: The run folder.
        holder: The process that works in it; None if there is none.
        state: What that process does, at most about 10 seconds old; None if not known.
        stages: Done shards of each stage.
        candidates: None before curation, and while ``state`` shows more recent numbers.
        set_aside: Events of the shards that are set aside.
        silent: Events of the workers that may hang.
        next: The stage with which the next run starts; None if all stages are done.
        reason: Why that stage is not current, where it was done before.
        shortfall: Why there are fewer pairs than the recipe's target asks for; None where there
            are as many, or that is not known yet.
    """

    url: str
    holder: Holder | None
    state: StageState | None
    stages: tuple[StageShards, ...]
    candidates: Candidates | None
    set_aside: tuple[Mapping[str, Any], ...]
    silent: tuple[Mapping[str, Any], ...]
    next: str | None
    reason: str | None = None
    shortfall: str | None = None

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = asdict(self)
        if self.holder is not None:
            values["holder"]["seems_dead"] = self.holder.seems_dead
        return values

    def text(self) -> str:
        """Text to print."""
        lines = [f"{self.url}: {self._who()}"]
        if self.state is not None:
            lines.append(f"{self.state.stage}: {self.state.text()}")
        lines += [
            f"worker {event.get('worker')} may hang (reported {_moment(float(event['time']))}): "
            f"{event.get('problem')}"
            for event in self.silent
        ]
        lines += ["", "shards done"]
        width = max(len(stage.stage) for stage in self.stages)
        for stage in self.stages:
            of = f" of {stage.total:,}" if stage.total is not None else ""
            lines.append(f"  {stage.stage:<{width}}  {stage.done:,}{of}")
        if self.candidates is not None:
            counts = self.candidates
            line = f"candidates: {counts.done:,} of {counts.total:,} done"
            line += f", {counts.failed:,} failed" if counts.failed else ""
            line += f", {counts.rejected:,} below a minimum" if counts.rejected else ""
            if counts.captions_rejected:
                line += f" ({counts.captions_rejected:,} captions have no pair for that)"
            lines += ["", line]
        lines += set_aside_notices(self.set_aside)
        lines += [self.shortfall] if self.shortfall is not None else []
        return "\n".join([*lines, "", self._advice()])

    def _who(self) -> str:
        holder = self.holder
        if holder is None:
            return "not running"
        who = f"on {holder.host}" + (f", process {holder.pid}" if holder.pid is not None else "")
        if holder.since is not None:
            who += f", since {_moment(holder.since)}"
        if holder.seems_dead:
            return f"seems dead: {who}, no heartbeat for {duration(holder.silent_s)}"
        return f"running {who}"

    def _advice(self) -> str:
        if self.holder is not None and not self.holder.seems_dead:
            hint = "use --watch to see whether it is alive"
            if self.holder.beat_time is None:
                return hint
            ago = duration(max(0.0, time.time() - self.holder.beat_time))
            return f"last heartbeat {ago} ago (by its own clock); {hint}"
        if self.next is None:
            return "all stages are done"
        why = f" ({self.reason})" if self.reason is not None else ""
        resume = f"synthvlm run --out {shlex.quote(self.url)}"
        return f"next stage: {self.next}{why}; resume with: {resume}"


def status(run: RunFolder, recipe: Recipe) -> Status:
    """The current state of a run. Nothing is written, and no image is read.

    Where no run works in the folder, only what its recipe and earlier stages now ask for counts as
    done.

    Args:
        run: The run folder.
        recipe: The recipe that the folder holds.

    Raises:
        RunFolderError: The folder cannot be read.
    """
    lock = run.lock_info()
    state = None if lock is None else StageState.of(lock.get("state"))
    # A run that works there knows what is current, and shows it.
    markers = DoneMarkers(run, recipe, CurrentWork(run, recipe) if lock is None else None)
    events = run.events()
    is_generating = state is not None and state.stage == "generate"
    candidates = None if is_generating else markers.candidates()
    next_stage, reason = markers.next_stage(candidates)
    return Status(
        url=run.url,
        holder=None if lock is None else _holder(lock),
        state=state,
        stages=tuple(markers.stages()),
        candidates=candidates,
        set_aside=tuple(set_aside(events)),
        silent=() if lock is None else tuple(_silent(events)),
        next=next_stage,
        reason=reason,
        shortfall=_shortfall(run, recipe) if lock is None and next_stage in _SELECTED else None,
    )


def _shortfall(run: RunFolder, recipe: Recipe) -> str | None:
    selection = run.marker("select", 0)
    selected = None if selection is None else selection.facts.get("selected")
    return shortfall(recipe, run.marker(TARGET, 0), selected)


def watch(
    run: RunFolder,
    recipe: Recipe,
    every: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Status]:
    """Yield the state of a run regularly, until its process ends or seems dead.

    Args:
        run: The run folder.
        recipe: The recipe that the folder holds.
        every: Seconds between two looks.
        clock: Counts seconds and never goes back.
        sleep: Waits for a number of seconds.
    """
    beat: Any = None
    since = clock()
    while True:
        current = status(run, recipe)
        if current.holder is None:
            yield current
            return
        # Only changes count, timed by this machine's clock: the other one's may be wrong.
        if current.holder.beat != beat:
            beat, since = current.holder.beat, clock()
        holder = replace(current.holder, silent_s=clock() - since)
        yield replace(current, holder=holder)
        if holder.seems_dead:
            return
        sleep(every)


def show_status(out: str, *, follow: bool = False, as_json: bool = False) -> None:
    """Print the state of a run, once or (``follow``) until the run ends.

    Raises:
        RunFolderError: It is not a run folder.
    """
    run, recipe = open_folder(out)
    looks = watch(run, recipe) if follow else iter([status(run, recipe)])
    if as_json:
        for look in looks:
            print(printable(json.dumps(look.values())), flush=True)
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
            live.update(Text(printable(look.text())), refresh=True)


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
    """The last events of workers that may hang, in the most recent run."""
    silent: dict[str, Mapping[str, Any]] = {}
    for event in events:
        worker = str(event.get("worker"))
        if event.get("event") in ("run", "shards"):
            silent.clear()
        elif event.get("event") in ("worker", "shard"):
            silent.pop(worker, None)
            if event.get("state") == "silent":
                silent[worker] = event
    return list(silent.values())


def _moment(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return "an unknown time"
