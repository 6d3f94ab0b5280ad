"""Whether what a run folder holds is what was written: every file that a done-marker names."""

from __future__ import annotations

from synthvlm.checks.discard import discard
from synthvlm.checks.findings import Finding, StageCheck, Verification
from synthvlm.checks.verify import verify

__all__ = ["Finding", "StageCheck", "Verification", "discard", "verify"]
