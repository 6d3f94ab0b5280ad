"""The command line; thin."""

# ruff: noqa: I001  (commands stand in the help in the order of imports)

from __future__ import annotations

import io
import sys

from synthvlm.cli import runs, models, about  # noqa: F401
from synthvlm.cli.options import app
from synthvlm.terminal import quiet_libraries

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line."""
    # A name that the terminal cannot show is no reason to stop.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    quiet_libraries()
    app()
