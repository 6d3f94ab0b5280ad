"""Progress in a notebook: a bar that is drawn again in place, above it what the stages did."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from synthvlm.progress.display import Progress, SilentProgress
from synthvlm.progress.stage_state import ScorerWork, StageMeter, StageState
from synthvlm.safe_text import for_html

__all__ = ["NotebookProgress", "default_progress"]

#: At least so many seconds are between two drawings of a moving bar.
_INTERVAL_S = 0.2


def default_progress() -> Progress:
    """A bar in a notebook; elsewhere nothing is shown."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    # A shell in a terminal has no kernel.
    if getattr(shell, "kernel", None) is None:
        return SilentProgress()
    return NotebookProgress()


class NotebookProgress:
    """Shows the stages in the output of a notebook's cell."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Create it with a clock that counts seconds; it appears with the first stage or line."""
        self._clock = clock
        self._meter: StageMeter | None = None
        self._lines: list[str] = []
        self._cell: Any = None
        self._drawn = clock()

    def start(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        """Show the stage in place of the one before."""
        self._meter = StageMeter(stage, total, unit, done, self._clock)
        self._draw()

    def advance(self, amount: int) -> None:
        """Move the bar."""
        if self._meter is None:
            return
        self._meter.advance(amount)
        if self._clock() - self._drawn >= _INTERVAL_S:
            self._draw()

    def update_workers(
        self, workers: int, waited: float | None, failed: int, scorers: ScorerWork | None = None
    ) -> None:
        """Keep it for the next drawing."""
        if self._meter is not None:
            self._meter.update_workers(workers, waited, failed, scorers)

    def finish(self, stage: str, line: str, details: Sequence[str] = ()) -> None:
        """Replace the bar with a line."""
        self._meter = None
        self._lines.append(f"✓ <b>{for_html(stage)}</b> {for_html(line)}")
        self._lines += [f"&emsp;{for_html(detail)}" for detail in details]
        self._draw()

    def note(self, line: str) -> None:
        """Show a line above the bar."""
        self._lines.append(str(for_html(line)))
        self._draw()

    def _draw(self) -> None:
        from IPython.display import HTML, display

        self._drawn = self._clock()
        lines = [f"<div>{line}</div>" for line in self._lines]
        if self._meter is not None:
            lines.append(_bar(self._meter.state()))
        style = "white-space:pre-wrap;font-family:monospace"
        page = HTML(f'<div style="{style}">{"".join(lines)}</div>')
        if self._cell is None:
            self._cell = display(page, display_id=True)
        else:
            self._cell.update(page)


def _bar(state: StageState) -> str:
    of = ""
    if state.total is not None:
        of = f' max="{max(state.total, state.done, 1)}" value="{state.done}"'
    texts = for_html(state.stage), for_html(state.text())
    return f"<div>{texts[0]} <progress{of}></progress> {texts[1]}</div>"
