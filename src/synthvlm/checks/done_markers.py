"""The shards of each stage that are done and still count, and what is left to do."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.run_folder.marker import (
    marker_name,
    question_stage,
    rule_of_stage,
    source_of_stage,
    stage_of,
)
from synthvlm.stages.current import CurrentWork

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["Candidates", "DoneMarkers", "StageShards"]

_STAGES = ("measure", "curate", "calibrate", "generate", "select", "export")
#: Stages whose last commit is a marker of another name: all sources are read, the data set is
#: complete.
_WHOLE = {"measure": "sources", "export": "dataset"}
_REPORT = "report/index.html"


@dataclass(frozen=True, slots=True)
class StageShards:
    """Number of done shards of a stage, and of all its shards (None if not known)."""

    stage: str
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates of the generate stage.

    Attributes:
        done: Committed without a failure.
        total: All.
        failed: Those that failed.
        rejected: Below the minimum of a scorer.
        captions_rejected: Captions without a pair, for all that is usable of them was rejected.
    """

    done: int
    total: int
    failed: int
    rejected: int = 0
    captions_rejected: int = 0


class DoneMarkers:
    """The done-markers of a run that count, from one listing."""

    def __init__(self, run: RunFolder, recipe: Recipe, work: CurrentWork | None) -> None:
        """Read the names of all markers; ``work`` says which still count, None: all."""
        self._run, self._recipe, self._work = run, recipe, work
        self._outdated = None if work is None else work.outdated
        names: dict[str, list[str]] = {}
        for name in run.listing("done"):
            names.setdefault(stage_of(name), []).append(name)
        current = {posixpath.basename(name) for name in names.get("curate", ())}
        if "generate" in names:  # shards beyond a lowered limit keep their images, but do not count
            names["generate"] = [n for n in names["generate"] if posixpath.basename(n) in current]
        self._was_done = "dataset" in names
        if work is not None:
            _drop_outdated(names, work)
        self._names = names
        self._done = Counter({stage: len(markers) for stage, markers in names.items()})
        self._whole = {stage: marker in names for stage, marker in _WHOLE.items()}

    def stages(self) -> Iterator[StageShards]:
        """The stages of the recipe, and those of rules, written captions and questions."""
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
            if stage == "curate":
                for name in self._question_stages():
                    yield StageShards(name, done[name], done["curate"] or None)

    def _question_stages(self) -> list[str]:
        """The stages that write the questions of the recipe's scorers."""
        return [question_stage(scorer) for scorer in self._recipe.question_scorers]

    def next_stage(self, candidates: Candidates | None) -> tuple[str | None, str | None]:
        """The first stage that is not done, None if all are; and why, where it was done before."""
        done = self._done
        finished = {
            "measure": self._whole["measure"],
            "curate": done["curate"] >= done["measure"],
            **{stage: done[stage] >= done["curate"] for stage in self._question_stages()},
            "generate": done["generate"] >= done["curate"]
            and (candidates is None or candidates.done >= candidates.total),
            "select": done["select"] > 0,
            "export": self._whole["export"],
            "report": self._run.exists(_REPORT),
        }
        outdated = self._outdated
        for stage, is_done in finished.items():
            if outdated is not None and outdated.stage == stage:
                return stage, outdated.reason if self._was_done else None
            if not is_done:
                is_whole = done[stage] >= done["curate"]
                return stage, _again(candidates) if stage == "generate" and is_whole else None
        return None, None

    def candidates(self) -> Candidates | None:
        """Count candidates by the facts of all markers; None before curation."""
        if not self._done["curate"]:
            return None
        work, run = self._work, self._run
        captions = run.markers("curate") if work is None else work.captions
        generated = run.markers("generate") if work is None else work.generated
        done = total = failed = 0
        rejected = Counter({"rejected": 0, "captions_rejected": 0})
        for shard, marker in captions.items():
            count = marker.facts.get("kept", 0)
            if self._recipe.target is not None:  # images are generated of those that it took
                count = generated[shard].facts.get("captions", 0) if shard in generated else 0
            expected = int(count) * self._recipe.generation.candidates
            total += expected
            if shard in generated:
                rows, lost, pending = (
                    int(generated[shard].facts.get(name, 0))
                    for name in ("candidates", "failed", "pending")
                )
                # There are more if the recipe has asked for more candidates before.
                done += max(0, min(rows - lost - pending, expected))
                failed += lost
                for name in rejected:
                    rejected[name] += int(generated[shard].facts.get(name, 0))
        return Candidates(done, total, failed, **rejected)


def _again(candidates: Candidates | None) -> str | None:
    """Why finished shards are not all that there is to generate."""
    failed = 0 if candidates is None else candidates.failed
    if not failed:
        return None
    return f"{failed:,} failed candidate{'' if failed == 1 else 's'} will be tried again"


def _drop_outdated(names: dict[str, list[str]], work: CurrentWork) -> None:
    """Leave out the markers of stages that have to be done again."""
    current = {marker_name("generate", shard) for shard in work.generated}
    names["generate"] = [name for name in names.get("generate", ()) if name in current]
    if work.outdated is None:
        return
    if work.outdated.stage != "export":
        names.pop("select", None)
    parts = work.parts if work.outdated.stage == "export" else {}
    current = {
        marker_name("export", n) for n, m in work.exported.items() if parts.get(n) == m.fingerprint
    }
    names["export"] = [name for name in names.get("export", ()) if name in current]
    names.pop("dataset", None)
