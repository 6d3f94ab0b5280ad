"""How commands are told which run or data set they work on."""

from __future__ import annotations

from pathlib import Path

from synthvlm.run import Run

__all__ = ["run_url"]


def run_url(named: str | Path | Run) -> str:
    """The path or URL of a run or data set."""
    return named.folder.url if isinstance(named, Run) else str(named)
