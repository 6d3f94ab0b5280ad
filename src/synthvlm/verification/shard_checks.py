"""Which check is for the shards of which stage."""

from __future__ import annotations

from collections.abc import Callable

from synthvlm.marker import Marker, rule_of_stage, source_of_stage
from synthvlm.verification.candidate_checks import CandidateChecks
from synthvlm.verification.caption_checks import CaptionChecks
from synthvlm.verification.checked_run import CheckedRun, Files, Found
from synthvlm.verification.images import decoders

__all__ = ["ShardChecks"]


class ShardChecks:
    """Checks what the rows of shards say, a shard at a time."""

    def __init__(self, run: CheckedRun) -> None:
        """Nothing is read yet."""
        self._workers = decoders()
        captions, candidates = CaptionChecks(run), CandidateChecks(run, self._workers)
        self._written, self._model_measure = captions.written, captions.model_measure
        self._checks: dict[str, Callable[[Found, int, Marker, Files], None]] = {
            "sources": captions.sources,
            "measure": captions.measure,
            "curate": captions.curate,
            "calibrate": candidates.calibrate,
            "generate": candidates.generate,
            "select": candidates.select,
        }

    def close(self) -> None:
        """Let go of the threads."""
        self._workers.shutdown()

    def check(self, found: Found, stage: str, shard: int, marker: Marker, files: Files) -> None:
        """Check a shard, given its sound files."""
        if source_of_stage(stage) is not None:
            self._written(found, stage, shard, marker, files)
        elif rule_of_stage(stage) is not None:
            self._model_measure(found, stage, shard, marker, files)
        else:
            self._checks[stage](found, shard, marker, files)
