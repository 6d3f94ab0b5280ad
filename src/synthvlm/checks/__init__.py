"""Checks of a run folder: status, integrity of every committed file, regeneration of images."""

from __future__ import annotations

from synthvlm.checks.discard import discard
from synthvlm.checks.findings import Finding, StageCheck, Verification
from synthvlm.checks.verify import verify

__all__ = ["Finding", "StageCheck", "Verification", "discard", "verify"]
