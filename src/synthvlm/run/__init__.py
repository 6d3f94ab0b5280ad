"""A run as users of Python see it: its tables, its report, its data set."""

from synthvlm.run.run import Run, open_run
from synthvlm.run.tables import Table

__all__ = ["Run", "Table", "open_run"]
