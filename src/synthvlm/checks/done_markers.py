"""What of a run is done, by its done-markers.

They are listed, not checked: whether what is done is still as the recipe wants it, the next run
finds out.
"""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthvlm.errors import RunFolderError
from synthvlm.run_folder.marker import rule_of_stage, source_of_stage, stage_of

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["Candidates", "DoneMarkers", "StageShards"]

_STAGES = ("measure", "curate", "calibrate", "generate", "select", "export")
#: Markers that say that a stage is done as a whole: all sources are read, the data set is whole.
_WHOLE = {"measure": "sources", "export": "dataset"}
_REPORT = "report/index.html"
#: Small files are read side by side: an object store answers each after tens of milliseconds.
_READERS = 16


@dataclass(frozen=True, slots=True)
class StageShards:
    """Shards of a stage that are done, of how many; None: not known."""

    stage: str
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates of the generate stage that are committed and did not fail, of how many."""

    done: int
    total: int
    failed: int


class DoneMarkers:
    """The names of a run's done-markers, as one listing found them."""

    def __init__(self, run: RunFolder, recipe: Recipe) -> None:
        """List them.

        Raises:
            RunFolderError: The folder cannot be read.
        """
        self._run, self._recipe = run, recipe
        names: dict[str, list[str]] = {}
        for name in run.listing("done"):
            names.setdefault(stage_of(name), []).append(name)
        current = {posixpath.basename(name) for name in names.get("curate", ())}
        if "generate" in names:  # shards beyond a lowered limit keep their images
            names["generate"] = [n for n in names["generate"] if posixpath.basename(n) in current]
        self._names = names
        self._done = Counter({stage: len(found) for stage, found in names.items()})
        self._whole = {stage: marker in names for stage, marker in _WHOLE.items()}

    def stages(self) -> Iterator[StageShards]:
        """Each stage that the recipe has, and those that measure for rules with models."""
        done, whole = self._done, self._whole
        totals: dict[str, int | None] = {
            "measure": done["measure"] if whole["measure"] else None,
            "curate": done["measure"] or None,
            "generate": done["curate"] or None,
            "select": 1,
            "export": done["export"] if whole["export"] else None,
        }
        for stage in sorted(done):
            if source_of_stage(stage) is not None:
                yield StageShards(stage, done[stage], None)
        for stage in _STAGES:
            if stage != "calibrate" or self._recipe.generation.adaptive is not None:
                yield StageShards(stage, done[stage], totals.get(stage))
            if stage == "measure":
                for other in sorted(done):
                    if rule_of_stage(other) is not None:
                        yield StageShards(other, done[other], done["measure"])

    def next_stage(self, candidates: Candidates | None) -> str | None:
        """The first stage that is not done; None: all are."""
        done = self._done
        finished = {
            "measure": self._whole["measure"],
            "curate": done["curate"] >= done["measure"],
            "generate": done["generate"] >= done["curate"]
            and (candidates is None or not candidates.failed),
            "select": done["select"] > 0,
            "export": self._whole["export"],
            "report": self._run.exists(_REPORT),
        }
        return next((stage for stage, is_done in finished.items() if not is_done), None)

    def candidates(self) -> Candidates | None:
        """From the facts of the markers, each of which is read; None before curation."""
        if not self._done["curate"]:
            return None
        done = total = failed = 0
        made = self._facts("generate")
        for shard, facts in self._facts("curate").items():
            wanted = int(facts.get("kept", 0)) * self._recipe.generation.candidates
            total += wanted
            if shard in made:
                lost = int(made[shard].get("failed", 0))
                # More than a shard has now are left from another recipe.
                done += max(0, min(int(made[shard].get("candidates", 0)) - lost, wanted))
                failed += lost
        return Candidates(done, total, failed)

    def _facts(self, stage: str) -> dict[str, Mapping[str, Any]]:
        """The facts of a stage's markers, by the last part of their names."""

        def read(name: str) -> Mapping[str, Any]:
            # It may be gone by now, and a damaged one counts for nothing.
            with suppress(RunFolderError, ValueError, KeyError, TypeError):
                facts = json.loads(self._run.read(name))["facts"]
                return facts if isinstance(facts, dict) else {}
            return {}

        names = self._names.get(stage, ())
        with ThreadPoolExecutor(_READERS) as readers:
            found = list(readers.map(read, names))
        return {posixpath.basename(name): facts for name, facts in zip(names, found, strict=True)}
