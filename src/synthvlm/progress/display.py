"""The progress display of a run: one live line per stage, or plain lines without a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from synthvlm.progress.stage_state import ScorerWork, StageMeter, StageState
from synthvlm.safe_text import printable

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "LiveProgress",
    "PlainProgress",
    "Progress",
    "SilentProgress",
    "Tracker",
    "terminal_progress",
]

_PLAIN_INTERVAL_S = 10.0
#: Width of the bar in columns, and its minimum. In a narrow terminal, what the workers do is left
#: out first, then the bar.
_BAR, _SHORT_BAR = 32, 6


class Progress(Protocol):
    """Shows the stages of a run."""

    def start(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        """A stage starts; ``done`` of its ``total`` units (None if not known) are done already."""

    def advance(self, amount: int) -> None:
        """Count more units of the stage as done; a negative number takes units back."""

    def update_workers(
        self, workers: int, waited: float | None, failed: int, scorers: ScorerWork | None = None
    ) -> None:
        """Show what the workers of the stage do now.

        Args:
            workers: Number of workers.
            waited: The share of their time (0 .. 1) in which the generator (the GPU) waited;
                None if not known.
            failed: Number of candidates that failed so far.
            scorers: What each scorer has done so far in this run; None where none works.
        """

    def finish(self, stage: str, line: str, details: Sequence[str] = ()) -> None:
        """A stage is done; the line says what it did, ``details`` are shown below it."""

    def note(self, line: str) -> None:
        """Show a line to the user."""


class SilentProgress:
    """Shows nothing."""

    def start(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        """Ignore."""

    def advance(self, amount: int) -> None:
        """Ignore."""

    def update_workers(
        self, workers: int, waited: float | None, failed: int, scorers: ScorerWork | None = None
    ) -> None:
        """Ignore."""

    def finish(self, stage: str, line: str, details: Sequence[str] = ()) -> None:
        """Ignore."""

    def note(self, line: str) -> None:
        """Ignore."""


class PlainProgress:
    """Plain lines on standard output: for logs, pipes and CI."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Create it with a clock that counts seconds and never goes back."""
        self._clock = clock
        self._meter: StageMeter | None = None
        self._shown = clock()

    def start(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        """Remember the stage."""
        self._meter = StageMeter(stage, total, unit, done, self._clock)
        self._shown = self._clock()

    def advance(self, amount: int) -> None:
        """Print a line every few seconds."""
        if self._meter is None:
            return
        self._meter.advance(amount)
        now = self._clock()
        if now - self._shown >= _PLAIN_INTERVAL_S:
            self._shown = now
            state = self._meter.state()
            self.note(f"{state.stage}: {state.text()}")

    def update_workers(
        self, workers: int, waited: float | None, failed: int, scorers: ScorerWork | None = None
    ) -> None:
        """Keep it for the next line."""
        if self._meter is not None:
            self._meter.update_workers(workers, waited, failed, scorers)

    def finish(self, stage: str, line: str, details: Sequence[str] = ()) -> None:
        """Print the line."""
        self._meter = None
        self.note(f"{stage}: {line}")
        for detail in details:
            self.note(f"  {detail}")

    def note(self, line: str) -> None:
        """Print the line."""
        print(printable(line), flush=True)


class LiveProgress:
    """One live line with stage, done/total, rate, time left and what the workers do."""

    def __init__(self) -> None:
        """Set the display up; it appears with the first stage."""
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        self._meter: StageMeter | None = None
        self._console = Console()
        self._spinner = Spinner("dots", style="progress.spinner")
        self._live = Live(
            get_renderable=self._line, console=self._console, refresh_per_second=8, transient=True
        )

    def __enter__(self) -> Self:
        """Show the display."""
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the terminal back."""
        self._live.stop()

    def start(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        """Show the stage in place of the one before."""
        self._meter = StageMeter(stage, total, unit, done)

    def advance(self, amount: int) -> None:
        """Move the bar."""
        if self._meter is not None:
            self._meter.advance(amount)

    def update_workers(
        self, workers: int, waited: float | None, failed: int, scorers: ScorerWork | None = None
    ) -> None:
        """Show it in the line."""
        if self._meter is not None:
            self._meter.update_workers(workers, waited, failed, scorers)

    def finish(self, stage: str, line: str, details: Sequence[str] = ()) -> None:
        """Replace the bar with a line."""
        self._meter = None
        # In one call: the live display would be drawn over an unfinished line.
        self._print(("✓ ", "green"), (f"{stage:<9} ", "bold"), printable(line))
        for detail in details:
            self.note(f"  {detail}")

    def note(self, line: str) -> None:
        """Print a line above the bar."""
        self._print(printable(line))

    def _line(self) -> Any:
        """The current line; the display calls this from its own thread."""
        meter = self._meter
        return "" if meter is None else self._columns(meter.state())

    def _columns(self, state: StageState) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        of = f"/{state.total:,}" if state.total is not None else ""
        left = state.seconds_left
        before = [("", f"{state.stage:<9}")]
        after = [
            ("progress.download", f"{state.done:,}{of}"),
            ("", state.unit),
            ("dim", f"{state.rate:,.1f}/s" if state.rate else ""),
            ("progress.remaining", "" if left is None else str(timedelta(seconds=round(left)))),
        ]
        width = self._console.width - 2 - sum(len(text) + 1 for _, text in before + after)
        workers = _fitting(state.worker_parts(), width - _SHORT_BAR - 1)
        bar = min(_BAR, width - 1 - (len(workers) + 1 if workers else 0))
        cells: list[Any] = [self._spinner, *_styled(before)]
        if bar >= _SHORT_BAR:
            pulse = state.total is None
            total = None if pulse else float(max(state.total or 0, state.done, 1))
            cells.append(ProgressBar(total, state.done, width=bar, pulse=pulse))
        cells += _styled([*after, ("dim", workers)])
        table = Table.grid(padding=(0, 1))
        for _ in cells:
            table.add_column(no_wrap=True)
        table.add_row(*cells)
        return table

    def _print(self, *parts: str | tuple[str, str]) -> None:
        from rich.text import Text

        # Not wrapped, no markup: users copy paths from these lines.
        self._console.print(Text.assemble(*parts), soft_wrap=True)


class Tracker:
    """Passes progress on to a display, and keeps the current state for those who ask.

    Example:
        >>> tracker = Tracker(SilentProgress())
        >>> tracker.start("generate", 400, "candidates")
        >>> tracker.advance(120)
        >>> tracker.snapshot()["done"]
        120
    """

    def __init__(self, display: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        """Create it with a display, and a clock that counts seconds and never goes back."""
        self._display, self._clock = display, clock
        self._lock = threading.Lock()
        self._meter: StageMeter | None = None
        self._finished: list[dict[str, Any]] = []

    def snapshot(self) -> dict[str, Any]:
        """The current state as plain values, for JSON. Thread-safe.

        Returns:
            The values of the ``StageState`` of the current stage, all None if there is none, and
            ``finished``: the stages that are done, each with ``stage``, ``line``, ``unit``,
            ``done`` and ``total`` (the last three None if it had nothing to do).
        """
        with self._lock:
            meter, finished = self._meter, [dict(stage) for stage in self._finished]
        values = dict.fromkeys(StageState.__slots__) if meter is None else meter.state().values()
        return {**values, "finished": finished}

    def start(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        """Measure the stage."""
        with self._lock:
            self._meter = StageMeter(stage, total, unit, done, self._clock)
        self._display.start(stage, total, unit, done)

    def advance(self, amount: int) -> None:
        """Count it."""
        meter = self._meter
        if meter is not None:
            meter.advance(amount)
        self._display.advance(amount)

    def update_workers(
        self, workers: int, waited: float | None, failed: int, scorers: ScorerWork | None = None
    ) -> None:
        """Record it."""
        meter = self._meter
        if meter is not None:
            meter.update_workers(workers, waited, failed, scorers)
        self._display.update_workers(workers, waited, failed, scorers)

    def finish(self, stage: str, line: str, details: Sequence[str] = ()) -> None:
        """Record the line."""
        with self._lock:
            state = None if self._meter is None else self._meter.state()
            if state is None or state.stage != stage:
                state = None
            self._finished.append(
                {
                    "stage": stage,
                    "line": line,
                    "unit": state and state.unit,
                    "done": state and state.done,
                    "total": state and state.total,
                }
            )
            self._meter = None
        self._display.finish(stage, line, details)

    def note(self, line: str) -> None:
        """Pass it on."""
        self._display.note(line)


@contextmanager
def terminal_progress(*, silent: bool = False) -> Iterator[Progress]:
    """The progress display of a command, shown while the context lasts.

    It is live if standard output is a terminal that can show it, otherwise it prints plain lines.
    Nothing is shown if ``silent``.
    """
    shows_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    if silent:
        yield SilentProgress()
    elif sys.stdout.isatty() and shows_unicode:
        with LiveProgress() as live:
            yield live
    else:
        yield PlainProgress()


def _fitting(parts: list[str], width: int) -> str:
    """Join the parts, without as many of the first ones as do not fit into ``width`` columns."""
    while parts and len(", ".join(parts)) > width:
        parts = parts[1:]
    return ", ".join(parts)


def _styled(cells: list[tuple[str, str]]) -> list[Any]:
    from rich.text import Text

    return [Text(printable(text), style=style) for style, text in cells]
