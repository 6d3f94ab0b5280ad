"""The HTML reports of a run and of its curation: pages that work offline, one file each."""

from synthvlm.report.curation_page import CURATION_FILE, write_curation_report
from synthvlm.report.render import write_report

__all__ = ["CURATION_FILE", "write_curation_report", "write_report"]
