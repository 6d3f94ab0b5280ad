"""The HTML report of a run: one page that works offline."""

from synthvlm.report.render import write_report

__all__ = ["write_report"]
