"""Goes through a run folder, stage by stage; one shard is in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from synthvlm.checks.candidate_checks import CandidateChecks
from synthvlm.checks.caption_checks import CaptionChecks
from synthvlm.checks.checked_run import CheckedRun, Found
from synthvlm.checks.data_set import DataSetChecks
from synthvlm.checks.expected_fingerprints import Wanted
from synthvlm.checks.findings import Finding, StageCheck, Verification
from synthvlm.checks.images import decoders
from synthvlm.checks.opened_run import opened_run
from synthvlm.checks.snapshot import Flaw, Snapshot
from synthvlm.errors import SynthVLMError
from synthvlm.progress.display import Progress, SilentProgress
from synthvlm.run_folder.folder import RECIPE_FILE
from synthvlm.run_folder.marker import Marker, rule_of_stage, source_of_stage
from synthvlm.stages.export import PARTS_FOLDER

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["verify"]

_SELECT, _EXPORT, _DATA_SET = "select", "export", "dataset"
#: Their files have fixed names: a run writes them in place, and their marker afterwards.
_IN_PLACE = (_SELECT, _EXPORT, _DATA_SET)
#: How often a shard is looked at that a run commits again and again meanwhile.
_LOOKS = 5

#: Checks a shard, given its marker, and adds to what is found.
_Check = Callable[[Found, int, Marker], None]


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
    with closing(_RunChecks(run, recipe, progress or SilentProgress())) as checks:
        stages = tuple(_stages(checks))
        notes = (*checks.notes, *checks.checked.notes)
        return Verification(run.url, stages, tuple(checks.findings), notes)


def _stages(checks: _RunChecks) -> Iterator[StageCheck]:
    """The stages that have a shard, in the order in which a run does them."""
    stages = sorted(checks.shards)
    for stage in stages:
        if source_of_stage(stage) is not None:
            yield _written(checks, stage)
    for name, check in _BEFORE_MODELS.items():
        if name in checks.shards:
            yield check(checks)
    for stage in stages:
        if rule_of_stage(stage) is not None:
            yield _model_measure(checks, stage)
    for name, check in _AFTER_MODELS.items():
        if name in checks.shards:
            yield check(checks)


def _written(checks: _RunChecks, stage: str) -> StageCheck:
    """What a model wrote of a source's images."""

    def check(found: Found, shard: int, marker: Marker) -> None:
        checks.captions.written(found, stage, shard, marker, checks.files(found, marker))

    return checks.stage(stage, check, [stage])


def _sources(checks: _RunChecks) -> StageCheck:
    """The marker that says that all sources are read."""

    def check(found: Found, shard: int, marker: Marker) -> None:
        checks.captions.sources(found, shard, marker, checks.files(found, marker))

    return checks.stage("sources", check)


def _measure(checks: _RunChecks) -> StageCheck:
    """The captions and their model-free measures."""

    def check(found: Found, shard: int, marker: Marker) -> None:
        checks.captions.measure(found, shard, marker, checks.files(found, marker))

    total = None
    if "sources" in checks.shards:
        sources = checks.look.marker("sources", 0)
        shards = None if sources is None else sources.facts.get("shards")
        total = shards if isinstance(shards, int) else None
    return checks.stage("measure", check, ["measures"], total)


def _model_measure(checks: _RunChecks, stage: str) -> StageCheck:
    """What a rule with a model measured."""

    def check(found: Found, shard: int, marker: Marker) -> None:
        checks.captions.model_measure(found, stage, shard, marker, checks.files(found, marker))

    return checks.stage(stage, check, [stage])


def _curate(checks: _RunChecks) -> StageCheck:
    """The verdicts, which depend on the measures of all shards."""
    checks.checked.measures = checks.markers("measure")

    def check(found: Found, shard: int, marker: Marker) -> None:
        checks.captions.curate(found, shard, marker, checks.files(found, marker))

    return checks.stage("curate", check, ["captions"], len(checks.shards.get("measure", ())))


def _calibrate(checks: _RunChecks) -> StageCheck:
    """The candidates by which adaptive best-of-k found its thresholds."""

    def check(found: Found, shard: int, marker: Marker) -> None:
        checks.candidates.calibrate(found, shard, marker, checks.files(found, marker))

    return checks.stage("calibrate", check, ["calibrate"])


def _generate(checks: _RunChecks) -> StageCheck:
    """The candidates, the winners, and thumbnails of losers."""

    def check(found: Found, shard: int, marker: Marker) -> None:
        checks.candidates.generate(found, shard, marker, checks.files(found, marker))

    folders = ["candidates", "pairs", "previews"]
    return checks.stage("generate", check, folders, len(checks.shards.get("curate", ())))


def _select(checks: _RunChecks) -> StageCheck:
    """The selection, which depends on the candidates of all shards."""
    checks.gather()

    def check(found: Found, shard: int, marker: Marker) -> None:
        checked, generated = checks.checked, checks.checked.generated
        wanted = checked.tell(_SELECT, lambda: checked.wanted.selection(generated))
        problem = "the candidates, or the settings of selection, are others now"
        checked.compare(found, marker, wanted, problem)
        if not found.all:  # else the next run writes it anew: what lies there now does not matter
            checks.candidates.select(found, shard, marker, checks.files(found, marker))

    return checks.stage(_SELECT, check)


def _export(checks: _RunChecks) -> StageCheck:
    """The parts of the data set, which depend on the selection."""
    checks.parts = checks.wanted_parts()

    def check(found: Found, shard: int, marker: Marker) -> None:
        files = checks.files_by_path(found, marker)
        if checks.parts is not None and checks.parts.get(shard) != marker.fingerprint:
            # The next run writes all of it: what lies there now does not matter.
            found.marker("stale", "its pairs, or the settings of export, are others now")
            checks.data_set.skip()
        else:
            checks.data_set.part(found, marker, files)

    return checks.stage(_EXPORT, check, [PARTS_FOLDER])


def _data_set(checks: _RunChecks) -> StageCheck:
    """The data set as a whole: its indexes, its card, and what belongs to no part."""

    def check(found: Found, shard: int, marker: Marker) -> None:
        checks.files(found, marker)
        parts = checks.parts
        if parts is not None and checks.checked.wanted.data_set(parts) != marker.fingerprint:
            found.marker("stale", "its parts, or the recipe, are others now: it is finished anew")
            checks.data_set.skip()
        else:
            checks.data_set.whole(found, marker)

    result = checks.stage(_DATA_SET, check)
    for name in checks.data_set.strays(checks.run):
        checks.add_stray(_DATA_SET, name)
    return result


_BEFORE_MODELS = {"sources": _sources, "measure": _measure}
_AFTER_MODELS = {
    "curate": _curate,
    "calibrate": _calibrate,
    "generate": _generate,
    _SELECT: _select,
    _EXPORT: _export,
    _DATA_SET: _data_set,
}


class _RunChecks:
    """What the checks of all stages share, and what they find.

    Attributes:
        run: The run folder.
        look: Reads markers and files.
        shards: The committed shards of each stage.
        checked: Reads tables, and compares fingerprints.
        captions: Checks shards of captions.
        candidates: Checks shards of candidates, and the selection.
        data_set: Checks the data set.
        parts: Fingerprints of the parts of the data set, once they are checked; None: not known.
        findings: What was found so far.
        notes: What could not be checked, and why.
    """

    def __init__(self, run: RunFolder, recipe: Recipe, progress: Progress) -> None:
        self.run, self._progress = run, progress
        self._recipe_text = run.read(RECIPE_FILE)
        self.look = Snapshot(run)
        self.checked = CheckedRun(recipe, self.look, Wanted(run, recipe))
        self.shards = self.look.shards()
        self._workers = decoders()
        self.captions = CaptionChecks(self.checked)
        self.candidates = CandidateChecks(self.checked, self._workers)
        self.data_set = DataSetChecks(self.look)
        self.parts: dict[int, str] | None = None
        self.findings: list[Finding] = []
        self.notes: list[str] = []

    def close(self) -> None:
        """Let go of the threads."""
        self._workers.shutdown()

    def stage(
        self, stage: str, check: _Check, folders: Collection[str] = (), total: int | None = None
    ) -> StageCheck:
        """Check the shards of a stage.

        Args:
            stage: Its name.
            check: Checks a shard.
            folders: Those that hold nothing but its files.
            total: Shards that it should have; None: not known.
        """
        shards = self.shards[stage]
        self._progress.start(f"verify {stage}", len(shards), "shards")
        done = files = size = 0
        named: set[str] = set()
        for shard in shards:
            found = self._shard(stage, shard, check, named)
            self._progress.advance(1)
            if found is not None:
                self.findings += found
                done += 1
                files += self.look.files
                size += self.look.size
        for folder in folders:
            for name in sorted(set(self.look.listing(folder)) - named):
                self.add_stray(stage, name)
        return StageCheck(stage, done, total, files, size)

    def _shard(
        self, stage: str, shard: int, check: _Check, named: set[str]
    ) -> list[Finding] | None:
        """What is found of a shard; None where it is not committed any more."""
        for _ in range(_LOOKS):
            self.look.begin()
            marker = self.look.marker(stage, shard)
            if not self.look.is_marked(stage, shard):
                return None
            found = Found(stage, shard)
            if marker is None:
                found.marker("damaged", "it is no done-marker")
            else:
                check(found, shard, marker)
            is_bad = any(finding.kind != "stale" for finding in found.all)
            holds = not found.all or self.look.holds()
            if holds and not (is_bad and stage in _IN_PLACE and self._has_changed()):
                named |= {file.path for file in marker.files} if marker is not None else set()
                return found.all
        self.notes.append(f"{stage}, shard {shard} is being changed by a run: not checked")
        return []

    def add_stray(self, stage: str, name: str) -> None:
        """A file that no marker names."""
        self.findings.append(Finding(stage, None, name, "stray", "no marker names it"))

    def files(self, found: Found, marker: Marker) -> dict[str, bytes]:
        """The sound files of a shard, by folder; those that are not are findings."""
        files = self.files_by_path(found, marker)
        return {file.folder: files[file.path] for file in marker.files if file.path in files}

    def files_by_path(self, found: Found, marker: Marker) -> dict[str, bytes]:
        """The same, by path."""
        files: dict[str, bytes] = {}
        for file in marker.files:
            try:
                files[file.path] = self.look.load(file)
            except Flaw as flaw:
                found.add(file.path, flaw.kind, str(flaw))
        return files

    def markers(self, stage: str) -> dict[int, Marker]:
        """The sound markers of a stage."""
        found = {n: self.look.marker(stage, n) for n in self.shards.get(stage, ())}
        return {n: marker for n, marker in found.items() if marker is not None}

    def gather(self) -> None:
        """Read what the selection depends on."""
        current = self.shards.get("curate", ())
        found = self.markers("generate")
        self.checked.generated = {n: found[n] for n in found if n in current}

    def _has_changed(self) -> bool:
        """Whether a run has changed what the selection and the data set depend on; gather it."""
        if self.run.lock_info() is None:
            return False  # nobody works there; one that has just ended has committed
        before = self._recipe_text, self.checked.generated, self.parts
        self.shards |= {s: n for s, n in self.look.shards().items() if s not in _IN_PLACE}
        self._recipe_text = self.run.read(RECIPE_FILE)
        if self._recipe_text != before[0]:
            _, self.checked.recipe = opened_run(self.run.url)
            self.checked.wanted = Wanted(self.run, self.checked.recipe)
        self.gather()
        self.parts = self.wanted_parts()
        return before != (self._recipe_text, self.checked.generated, self.parts)

    def wanted_parts(self) -> dict[int, str] | None:
        """Of each part; None where something before it is not as it should be.

        The records then tell what the files must be.
        """
        before = {"curate", "generate", _SELECT}
        if any(f.stage in before and f.kind in ("damaged", "missing") for f in self.findings):
            return None
        wanted, generated = self.checked.wanted, self.checked.generated
        selection = self.look.marker(_SELECT, 0)
        try:
            if selection is None or selection.fingerprint != wanted.selection(generated):
                return None
            return wanted.parts(self.markers("curate"), generated)
        except (SynthVLMError, KeyError, AssertionError):
            return None  # a run is changing them
