"""What a run shows while it works: one live line per stage, or plain lines without a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Protocol, Self

__all__ = ["LiveProgress", "PlainProgress", "Progress", "SilentProgress", "progress_for_terminal"]

_PLAIN_INTERVAL_S = 10.0


class Progress(Protocol):
    """Shows the stages of a run."""

    def start(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        """A stage begins; ``total`` in units (None: not known), ``done`` of them earlier."""

    def advance(self, amount: int) -> None:
        """That many more units of the stage are done."""

    def finish(self, stage: str, line: str) -> None:
        """A stage is done; the line says what it did."""

    def note(self, line: str) -> None:
        """Something that people should read."""


class SilentProgress:
    """Shows nothing."""

    def start(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        """Ignore."""

    def advance(self, amount: int) -> None:
        """Ignore."""

    def finish(self, stage: str, line: str) -> None:
        """Ignore."""

    def note(self, line: str) -> None:
        """Ignore."""


class PlainProgress:
    """Plain lines on standard output: for logs, pipes and CI."""

    def __init__(self) -> None:
        """Begin with no stage."""
        self._stage, self._unit = "", ""
        self._total: int | None = None
        self._done = self._earlier = 0
        self._began = self._shown = time.monotonic()

    def start(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        """Remember the stage."""
        self._stage, self._total, self._unit = stage, total, unit
        self._done = self._earlier = done
        self._began = self._shown = time.monotonic()

    def advance(self, amount: int) -> None:
        """Print a line now and then."""
        self._done += amount
        now = time.monotonic()
        if now - self._shown >= _PLAIN_INTERVAL_S:
            self._shown = now
            rate = (self._done - self._earlier) / (now - self._began)
            left = ""
            if self._total and rate:
                left = f", {(self._total - self._done) / rate:.0f} s left"
            of = f"/{self._total:,}" if self._total else ""
            self.note(f"{self._stage}: {self._done:,}{of} {self._unit}, {rate:.1f}/s{left}")

    def finish(self, stage: str, line: str) -> None:
        """Print the line."""
        self.note(f"{stage}: {line}")

    def note(self, line: str) -> None:
        """Print the line."""
        print(line, flush=True)


class LiveProgress:
    """One live line with stage, done/total, rate and time left."""

    def __init__(self) -> None:
        """Set the display up; it appears with the first stage."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            ProgressColumn,
            SpinnerColumn,
            Task,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress
        from rich.text import Text

        class RateColumn(ProgressColumn):
            def render(self, task: Task) -> Text:
                speed = task.finished_speed or task.speed
                return Text(f"{speed:,.1f}/s" if speed else "", style="dim")

        self._console = Console()
        self._bars = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            RateColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task: Any = None

    def __enter__(self) -> Self:
        """Show the display."""
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the terminal back."""
        self._bars.stop()

    def start(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        """Show a new bar in place of the one before."""
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(stage, total=total, completed=done, unit=unit)

    def advance(self, amount: int) -> None:
        """Move the bar."""
        if self._task is not None:
            self._bars.advance(self._task, amount)

    def finish(self, stage: str, line: str) -> None:
        """Replace the bar by a line."""
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
        # One print: the display would be drawn over the beginning of a line that has no end yet.
        self._print(("✓ ", "green"), (f"{stage:<9} ", "bold"), line)

    def note(self, line: str) -> None:
        """Print a line above the bar."""
        self._print(line)

    def _print(self, *parts: str | tuple[str, str]) -> None:
        from rich.text import Text

        # Neither wrapped nor interpreted: paths are there to be copied.
        self._console.print(Text.assemble(*parts), soft_wrap=True)


def progress_for_terminal() -> LiveProgress | PlainProgress:
    """A live display where standard output is a terminal that can show it, else plain lines."""
    shows_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    return LiveProgress() if sys.stdout.isatty() and shows_unicode else PlainProgress()
