"""``synthvlm verify``: checks a run folder stage by stage, with one shard in memory at a time.

A run may work in the folder meanwhile. So a shard with findings is checked again if its markers
have changed since they were read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from synthvlm.checks.caption_checks import CaptionChecks
from synthvlm.checks.checked_run import CheckedRun, CheckedShard, ExpectedFingerprints
from synthvlm.checks.data_set_checks import DataSetChecks, is_read
from synthvlm.checks.discard import discard as discard_damaged
from synthvlm.checks.findings import Finding, StageCheck, Verification
from synthvlm.checks.images import decoders
from synthvlm.checks.lost_commits import lost_commits
from synthvlm.checks.shard_checks import CandidateChecks
from synthvlm.checks.snapshot import Snapshot
from synthvlm.errors import SynthVLMError
from synthvlm.progress.display import Progress
from synthvlm.progress.notebook import default_progress
from synthvlm.run.kept_recipe import open_folder
from synthvlm.run_folder.folder import RECIPE_FILE
from synthvlm.run_folder.marker import (
    marker_name,
    rule_of_stage,
    scorer_of_stage,
    source_of_stage,
)
from synthvlm.stages.current import lost_shards, present_shards
from synthvlm.stages.data_set_fingerprints import selection_fingerprint
from synthvlm.stages.export import PARTS_FOLDER
from synthvlm.stages.generation.generate import FOLDERS as GENERATE_FOLDERS
from synthvlm.stages.image_overlap import COMPARED
from synthvlm.stages.near_duplicate_images import HASHES

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["verify", "verify_run"]

_SELECT, _EXPORT, _DATA_SET = "select", "export", "dataset"
#: Stages whose files have fixed names: a run overwrites the files first, and their marker later.
_IN_PLACE = (_SELECT, _EXPORT, _DATA_SET)
#: How often a shard is checked again that a run keeps committing meanwhile.
_ATTEMPTS = 5
#: Folders that hold the files of one stage and nothing else.
_FOLDERS = {
    "measure": ["measures"],
    "curate": ["captions"],
    "calibrate": ["calibrate", "calibrate-pairs"],
    "generate": GENERATE_FOLDERS,
    COMPARED: [COMPARED],
    HASHES: [HASHES],
    _EXPORT: [PARTS_FOLDER],
}

#: Checks a shard and adds to its findings.
_Check = Callable[[CheckedShard], None]


def verify(
    run: RunFolder, recipe: Recipe, progress: Progress | None = None, *, is_held: bool = False
) -> Verification:
    """Check every committed shard of every stage. Nothing is written, no model is loaded.

    It may be called while a run works in the folder.

    Args:
        run: The run folder.
        recipe: The recipe that the folder holds.
        progress: Shows the stages, in shards.
        is_held: Whether the caller holds the folder.

    Raises:
        RunFolderError: The folder cannot be read.
    """
    progress = progress or default_progress()
    with closing(_Verifier(run, recipe, progress, is_held=is_held)) as verifier:
        stages = tuple(verifier.check_stages())
        return Verification(
            run.url, stages, tuple(verifier.findings), tuple(verifier.checked.notes)
        )


def verify_run(url: str, *, discard: bool, progress: Progress) -> Verification:
    """Verify a run folder, and where asked to, discard what is damaged.

    Raises:
        RunFolderError: It is not a run folder; or a run works in it and ``discard``.
    """
    run, recipe = open_folder(url)
    if not discard:
        return verify(run, recipe, progress)
    with run.held(note=progress.note):
        result = verify(run, recipe, progress, is_held=True)
        return replace(result, discarded=tuple(discard_damaged(run, result)))


class _Verifier:
    """Goes through the stages in the order in which a run does them, and collects findings."""

    def __init__(
        self, run: RunFolder, recipe: Recipe, progress: Progress, *, is_held: bool
    ) -> None:
        self._run, self._progress, self._is_held = run, progress, is_held
        self._recipe_text = run.read(RECIPE_FILE)
        self._snapshot = Snapshot(run)
        self.checked = CheckedRun(run, recipe, self._snapshot)
        self._decoders = decoders()
        self._captions = CaptionChecks(self.checked)
        self._candidates = CandidateChecks(self.checked, self._decoders)
        self._data_set = DataSetChecks(self.checked)
        self.findings: list[Finding] = []

    def close(self) -> None:
        """Release the threads."""
        self._decoders.shutdown()

    def check_stages(self) -> Iterator[StageCheck]:
        """Check all stages that have a committed shard."""
        checked = self.checked
        for stage, check in self._checks().items():
            if stage not in checked.shards:
                continue
            if stage == "curate":
                checked.measures = checked.markers("measure")
            elif stage == _SELECT:
                self._read_generated()
            elif stage == _EXPORT:
                checked.parts = self._expected_parts()
            yield self._check_stage(stage, check, _FOLDERS.get(stage, ()))
            if stage == _DATA_SET and self._has_all_records():
                self._add_strays(stage, self._data_set.strays())
        if not self._is_busy():
            self.findings += lost_commits(self._run, checked.recipe, self._snapshot)

    def _checks(self) -> dict[str, _Check]:
        """The check of a shard of each stage."""
        captions, candidates, data_set = self._captions, self._candidates, self._data_set
        stages = sorted(self.checked.shards)
        written = [stage for stage in stages if source_of_stage(stage) is not None]
        by_model = [stage for stage in stages if rule_of_stage(stage) is not None]
        questions = [stage for stage in stages if scorer_of_stage(stage) is not None]
        return {
            **dict.fromkeys(written, captions.written),
            "sources": captions.sources,
            "measure": captions.measure,
            **dict.fromkeys(by_model, captions.model_measure),
            "curate": captions.curate,
            **dict.fromkeys(questions, captions.questions),
            "calibrate": candidates.calibrate,
            "generate": candidates.generate,
            COMPARED: lambda shard: None,
            HASHES: lambda shard: None,
            _SELECT: candidates.select,
            _EXPORT: data_set.part,
            _DATA_SET: data_set.whole,
        }

    def _check_stage(self, stage: str, check: _Check, folders: Collection[str]) -> StageCheck:
        shards = self.checked.shards[stage]
        self._progress.start(f"verify {stage}", len(shards), "shards")
        done = files = size = 0
        named: set[str] = set()
        for number in shards:
            findings = self._check_shard(stage, number, check, named)
            self._progress.advance(1)
            if findings is not None:
                self.findings += findings
                done += 1
                files += self._snapshot.files
                size += self._snapshot.size
        if any(of(stage) is not None for of in (rule_of_stage, source_of_stage, scorer_of_stage)):
            folders = [stage]
        for folder in folders:
            self._add_strays(stage, sorted(set(self._snapshot.listing(folder)) - named))
        return StageCheck(stage, done, self._total(stage), files, size)

    def _check_shard(
        self, stage: str, number: int, check: _Check, named: set[str]
    ) -> list[Finding] | None:
        """The findings of a shard; None if it is no longer committed."""
        for _ in range(_ATTEMPTS):
            self._snapshot.begin()
            marker = self._snapshot.marker(stage, number)
            if not self._snapshot.is_marked(stage, number):
                return None
            if marker is None:
                name = marker_name(stage, number)
                findings = [Finding(stage, number, name, "damaged", "it is not a done-marker")]
            else:
                shard = CheckedShard(stage, number, marker, self._snapshot)
                if stage != _SELECT:  # the files of a stale selection do not matter
                    shard.read_files()
                check(shard)
                findings = shard.findings
            is_bad = any(finding.kind != "stale" for finding in findings)
            is_unchanged = not findings or self._snapshot.holds()
            if is_unchanged and not (is_bad and stage in _IN_PLACE and self._has_changed()):
                named |= {file.path for file in marker.files} if marker is not None else set()
                return findings
        self.checked.notes.append(f"{stage}, shard {number}: not checked, a run is changing it")
        return []

    def _total(self, stage: str) -> int | None:
        """How many shards a stage should have; None if not known."""
        shards = self.checked.shards
        if stage == "measure" and "sources" in shards:
            marker = self._snapshot.marker("sources", 0)
            total = None if marker is None else marker.facts.get("shards")
            return total if isinstance(total, int) else None
        before = {"curate": "measure", "generate": "curate"}.get(stage)
        return None if before is None else len(shards.get(before, ()))

    def _add_strays(self, stage: str, names: Collection[str] | Iterator[str]) -> None:
        for name in names:
            if stage == _DATA_SET and is_read(name):
                problem = "the export did not write it, and readers take it for a part of the data"
                self.findings.append(Finding(stage, None, name, "foreign", problem))
            else:
                self.findings.append(Finding(stage, None, name, "stray", "no marker names it"))

    def _read_generated(self) -> None:
        """Read the markers that the selection depends on."""
        checked = self.checked
        checked.generated = present_shards(
            checked.markers("curate"), checked.markers("generate"), lost_shards(self._run.events())
        )

    def _has_all_records(self) -> bool:
        """Whether it is known which files the data set has."""
        parts, committed = self.checked.parts, self.checked.shards.get(_EXPORT, ())
        return (
            parts is not None
            and parts.keys() <= set(committed)
            and not any(
                f.stage in (_EXPORT, _DATA_SET) and f.file.startswith("done/")
                for f in self.findings
            )
        )

    def _is_busy(self) -> bool:
        """Whether another process works in the folder, whose commits may come any moment."""
        return not self._is_held and self._run.lock_info() is not None

    def _has_changed(self) -> bool:
        """Whether a run has changed what the selection and the data set depend on.

        If so, that is read again.
        """
        if self._run.lock_info() is None:
            return False  # no run works there, and one that has just ended has committed its files
        checked = self.checked
        before = self._recipe_text, checked.generated, checked.parts
        shards = self._snapshot.shards()
        checked.shards |= {s: numbers for s, numbers in shards.items() if s not in _IN_PLACE}
        self._recipe_text = self._run.read(RECIPE_FILE)
        if self._recipe_text != before[0]:
            _, checked.recipe = open_folder(self._run.url)
            checked.expected = ExpectedFingerprints(self._run, checked.recipe)
        self._read_generated()
        checked.parts = self._expected_parts()
        return before != (self._recipe_text, checked.generated, checked.parts)

    def _expected_parts(self) -> dict[int, str] | None:
        """The expected fingerprint of each part of the data set.

        None if an earlier stage is not as it should be. The files of the data set are then compared
        with their records only.
        """
        before = {"curate", "generate", _SELECT}
        if any(f.stage in before and f.kind in ("damaged", "missing") for f in self.findings):
            return None
        checked = self.checked
        selection = self._snapshot.marker(_SELECT, 0)
        try:
            expected = selection_fingerprint(
                checked.recipe, checked.markers("curate"), checked.generated, checked.marks
            )
            if selection is None or selection.fingerprint != expected:
                return None
            return checked.expected.parts(checked.markers("curate"), checked.generated)
        except (SynthVLMError, KeyError, AssertionError):
            return None  # a run is changing them
