"""Goes through a run folder, stage by stage; one shard is in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from synthvlm.errors import SynthVLMError
from synthvlm.marker import Marker, rule_of_stage, source_of_stage
from synthvlm.opened_run import opened_run
from synthvlm.progress import Progress, SilentProgress
from synthvlm.store import RECIPE_FILE
from synthvlm.verification.checked_run import CheckedRun, Found
from synthvlm.verification.data_set import DataSetChecks
from synthvlm.verification.findings import Finding, StageCheck, Verification
from synthvlm.verification.shard_checks import ShardChecks
from synthvlm.verification.snapshot import Flaw, Snapshot
from synthvlm.verification.wanted import Wanted

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.store import RunFolder

__all__ = ["verify"]

_SELECT, _EXPORT, _DATA_SET = "select", "export", "dataset"
#: Their files have fixed names: a run writes them in place, and their marker afterwards.
_IN_PLACE = (_SELECT, _EXPORT, _DATA_SET)
#: Folders of a stage, where they have other names than the stage.
_FOLDERS = {
    "sources": (),
    "measure": ("measures",),
    "curate": ("captions",),
    "generate": ("candidates", "pairs", "previews"),
    "select": (),
    "export": ("export-parts",),
    "dataset": (),
}
#: How often a shard is looked at that a run commits again and again meanwhile.
_LOOKS = 5


def verify(run: RunFolder, recipe: Recipe, progress: Progress | None = None) -> Verification:
    """Check every committed shard of every stage; nothing is written, no model is loaded.

    It may be called beside a running run: what that commits meanwhile is looked at again.

    Args:
        run: The run folder.
        recipe: The one that the folder holds.
        progress: Shows the stages, in shards.

    Raises:
        RunFolderError: The folder cannot be read.
    """
    with closing(_Walk(run, recipe, progress or SilentProgress())) as walk:
        return walk.all()


class _Walk:
    def __init__(self, run: RunFolder, recipe: Recipe, progress: Progress) -> None:
        self._run, self._progress = run, progress
        self._recipe_text = run.read(RECIPE_FILE)
        self._look = Snapshot(run)
        self._wanted = Wanted(run, recipe)
        self._checked = CheckedRun(recipe, self._look, self._wanted)
        self._checks = ShardChecks(self._checked)
        self._data_set = DataSetChecks(self._look)
        self._parts: dict[int, str] | None = None
        self._shards: dict[str, list[int]] = {}
        self._findings: list[Finding] = []
        self._notes: list[str] = []

    def close(self) -> None:
        self._checks.close()

    def all(self) -> Verification:
        self._shards = self._look.shards()
        stages = []
        for stage in _in_order(self._shards):
            self._prepare(stage)
            stages.append(self._stage(stage))
        notes = (*self._notes, *self._checked.notes)
        return Verification(self._run.url, tuple(stages), tuple(self._findings), notes)

    def _prepare(self, stage: str) -> None:
        """Gather what a stage's fingerprints depend on."""
        if stage == "curate":
            self._checked.measures = self._markers("measure")
        elif stage == _SELECT:
            self._gather()
        elif stage == _EXPORT:
            self._parts = self._wanted_parts()

    def _gather(self) -> None:
        """What the selection depends on."""
        current = self._shards.get("curate", ())
        found = self._markers("generate")
        self._checked.generated = {n: found[n] for n in found if n in current}

    def _has_changed(self) -> bool:
        """Whether a run has changed what the selection and the data set depend on; gather it."""
        if self._run.lock_info() is None:
            return False  # nobody works there; one that has just ended has committed
        before = self._recipe_text, self._checked.generated, self._parts
        self._shards |= {s: n for s, n in self._look.shards().items() if s not in _IN_PLACE}
        self._recipe_text = self._run.read(RECIPE_FILE)
        if self._recipe_text != before[0]:
            _, self._checked.recipe = opened_run(self._run.url)
            self._checked.wanted = self._wanted = Wanted(self._run, self._checked.recipe)
        self._gather()
        self._parts = self._wanted_parts()
        return before != (self._recipe_text, self._checked.generated, self._parts)

    def _markers(self, stage: str) -> dict[int, Marker]:
        found = {n: self._look.marker(stage, n) for n in self._shards.get(stage, ())}
        return {n: marker for n, marker in found.items() if marker is not None}

    def _stage(self, stage: str) -> StageCheck:
        shards = self._shards[stage]
        self._progress.start(f"verify {stage}", len(shards), "shards")
        done = files = size = 0
        named: set[str] = set()
        for shard in shards:
            found = self._shard(stage, shard, named)
            self._progress.advance(1)
            if found is not None:
                self._findings += found
                done += 1
                files += self._look.files
                size += self._look.size
        total = self._total(stage)
        for folder in _FOLDERS.get(stage, (stage,)):
            for name in sorted(set(self._look.listing(folder)) - named):
                self._stray(stage, name)
        if stage == _DATA_SET:
            for name in self._data_set.strays(self._run):
                self._stray(stage, name)
        return StageCheck(stage, done, total, files, size)

    def _stray(self, stage: str, name: str) -> None:
        self._findings.append(Finding(stage, None, name, "stray", "no marker names it"))

    def _total(self, stage: str) -> int | None:
        """Shards that a stage should have."""
        before = {"curate": "measure", "generate": "curate"}.get(stage)
        if before is not None:
            return len(self._shards.get(before, ()))
        if stage == "measure" and "sources" in self._shards:
            marker = self._look.marker("sources", 0)
            total = None if marker is None else marker.facts.get("shards")
            return total if isinstance(total, int) else None
        return None

    def _shard(self, stage: str, shard: int, named: set[str]) -> list[Finding] | None:
        """What is found of a shard; None where it is not committed any more."""
        for _ in range(_LOOKS):
            self._look.begin()
            marker = self._look.marker(stage, shard)
            if not self._look.is_marked(stage, shard):
                return None
            found = Found(stage, shard)
            if marker is None:
                found.marker("damaged", "it is no done-marker")
            else:
                self._check(found, stage, shard, marker)
            is_bad = any(finding.kind != "stale" for finding in found.all)
            holds = not found.all or self._look.holds()
            if holds and not (is_bad and stage in _IN_PLACE and self._has_changed()):
                named |= {file.path for file in marker.files} if marker is not None else set()
                return found.all
        self._notes.append(f"{stage}, shard {shard} is being changed by a run: not checked")
        return []

    def _check(self, found: Found, stage: str, shard: int, marker: Marker) -> None:
        if stage == _SELECT and self._is_stale_selection(found, marker):
            return  # the next run writes it anew: what lies there now does not matter
        data: dict[str, bytes] = {}
        for file in marker.files:
            try:
                loaded = self._look.load(file)
            except Flaw as flaw:
                found.add(file.path, flaw.kind, str(flaw))
                continue
            data[file.path if stage == _EXPORT else file.folder] = loaded
        if stage == _EXPORT:
            self._check_part(found, shard, marker, data)
        elif stage == _DATA_SET:
            self._check_data_set(found, marker)
        else:
            self._checks.check(found, stage, shard, marker, data)

    def _is_stale_selection(self, found: Found, marker: Marker) -> bool:
        generated = self._checked.generated
        wanted = self._checked.tell(_SELECT, lambda: self._wanted.selection(generated))
        problem = "the candidates, or the settings of selection, are others now"
        self._checked.compare(found, marker, wanted, problem)
        return bool(found.all)

    def _check_part(self, found: Found, shard: int, marker: Marker, data: dict[str, bytes]) -> None:
        if self._parts is not None and self._parts.get(shard) != marker.fingerprint:
            # The next run writes all of it: what lies there now does not matter.
            found.marker("stale", "its pairs, or the settings of export, are others now")
            self._data_set.skip()
        else:
            self._data_set.part(found, marker, data)

    def _check_data_set(self, found: Found, marker: Marker) -> None:
        is_stale = (
            self._parts is not None and self._wanted.data_set(self._parts) != marker.fingerprint
        )
        if is_stale:
            found.marker("stale", "its parts, or the recipe, are others now: it is finished anew")
            self._data_set.skip()
        else:
            self._data_set.whole(found, marker)

    def _wanted_parts(self) -> dict[int, str] | None:
        """Of each part; None where something before it is not as it should be.

        The records then tell what the files must be.
        """
        before = {"curate", "generate", _SELECT}
        if any(f.stage in before and f.kind in ("damaged", "missing") for f in self._findings):
            return None
        generated, selection = self._checked.generated, self._look.marker(_SELECT, 0)
        try:
            if selection is None or selection.fingerprint != self._wanted.selection(generated):
                return None
            return self._wanted.parts(self._markers("curate"), generated)
        except (SynthVLMError, KeyError, AssertionError):
            return None  # a run is changing them


def _in_order(stages: dict[str, list[int]]) -> Iterator[str]:
    """The known ones of some stages, in the order in which a run does them."""
    for stage in sorted(stages):
        if source_of_stage(stage) is not None:
            yield stage
    for stage in (
        "sources", "measure", *(s for s in sorted(stages) if rule_of_stage(s) is not None),
        "curate", "calibrate", "generate", "select", _EXPORT, _DATA_SET,
    ):  # fmt: skip
        if stage in stages:
            yield stage
