"""The run under check: the fingerprints that its recipe expects, and its shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from synthvlm.checks.findings import Finding, Kind, summarize
from synthvlm.checks.snapshot import Flaw, Snapshot, table
from synthvlm.errors import SynthVLMError
from synthvlm.run_folder.marker import Marker, marker_name
from synthvlm.run_folder.marks import Marks, read_marks
from synthvlm.stages.curation.written import stages_of
from synthvlm.stages.data_set_fingerprints import part_fingerprints
from synthvlm.stages.fingerprints import (
    calibration_fingerprint,
    content_fingerprint,
    image_fingerprint,
    measured_fingerprint,
    text_rule_fingerprints,
    written_fingerprint,
)
from synthvlm.stages.generation.calibrate import calibrated_fingerprint
from synthvlm.stages.generation.prompts import prompts_of
from synthvlm.stages.selected_pairs import SelectedPairs

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder
    from synthvlm.stages.generation.prompts import TakenCaptions

__all__ = ["DISCARDED", "CheckedRun", "CheckedShard", "ExpectedFingerprints"]

#: Fingerprint of a shard of which damaged files were discarded: no recipe expects it.
DISCARDED = "damaged"

Markers = Mapping[int, Marker]


class ExpectedFingerprints:
    """The fingerprints that a recipe expects, as far as the stages do not compute them in one call.

    No model is loaded. What requires reading sources or model files is computed once.
    """

    def __init__(self, run: RunFolder, recipe: Recipe) -> None:
        """Nothing is read yet."""
        self._run, self._recipe = run, recipe

    @cached_property
    def content(self) -> str:
        """Of the content of all sources."""
        return content_fingerprint(self._recipe)

    @cached_property
    def text_rules(self) -> dict[str, str]:
        """By the name of each rule without a model."""
        return text_rule_fingerprints(self._recipe)

    @cached_property
    def shared(self) -> str:
        """Of what every image depends on."""
        return image_fingerprint(self._recipe)

    def measure(self, shard: int, table: pa.Table) -> str:
        """Of a shard of measured captions."""
        rows = zip(table["id"].to_pylist(), table["problem"].to_pylist(), strict=True)
        return measured_fingerprint(self._recipe, self.content, shard, list(rows))

    def written(self, stage: str) -> str | None:
        """Of the captions written for a source; None if the recipe has no such source."""
        sources = [s for s in self._recipe.sources if s.image_captioner is not None]
        source = dict(zip(stages_of(self._recipe), sources, strict=True)).get(stage)
        return None if source is None else written_fingerprint(self._recipe, source)

    def calibration(self) -> str | None:
        """Of the calibration; None if the recipe has none."""
        adaptive = self._recipe.generation.adaptive
        if adaptive is None or adaptive.threshold is not None:
            return None
        return calibration_fingerprint(self._recipe, adaptive, self.shared)

    def candidates(
        self,
        shard: int,
        captions: pa.Table,
        taken: TakenCaptions | None,
        calibration: Marker | None,
    ) -> str:
        """Of the candidates of a shard of captions."""
        prompts = prompts_of(shard, captions, self.shared, taken)
        return calibrated_fingerprint(self._recipe, self.shared, calibration, prompts)

    def parts(self, captions: Markers, generated: Markers) -> dict[int, str]:
        """Of each part of the data set.

        Raises:
            RunFolderError: The selection, or a file of pairs, cannot be read.
        """
        selected = SelectedPairs(self._run, self._recipe, captions, generated)
        return part_fingerprints(self._recipe, selected)


class CheckedRun:
    """What the checks of all shards share.

    Attributes:
        run: The run folder.
        recipe: Its recipe.
        snapshot: Reads markers and files.
        shards: The committed shards of each stage.
        expected: The fingerprints that the recipe expects.
        measures: Markers of the stage measure; set before the stage curate is checked.
        generated: Markers of the stage generate; set before the selection is checked.
        parts: Expected fingerprints of the parts of the data set; None if not known.
        notes: What could not be checked, and why.
    """

    def __init__(self, run: RunFolder, recipe: Recipe, snapshot: Snapshot) -> None:
        """List the committed shards."""
        self.run, self.recipe, self.snapshot = run, recipe, snapshot
        self.shards = snapshot.shards()
        self.expected = ExpectedFingerprints(run, recipe)
        self.measures: dict[int, Marker] = {}
        self.generated: dict[int, Marker] = {}
        self.parts: dict[int, str] | None = None
        self.notes: list[str] = []
        self._failed: set[str] = set()

    @cached_property
    def marks(self) -> Marks:
        """The marks of pairs."""
        return read_marks(self.run)

    def fingerprint(self, stage: str, compute: Callable[[], str | None]) -> str | None:
        """The result of ``compute``; None where it fails, which is noted once for each stage."""
        if stage in self._failed:
            return None
        try:
            return compute()
        except (SynthVLMError, OSError, KeyError, TypeError, AttributeError) as error:
            # The last three: an earlier marker holds nonsense, which is a finding of its stage.
            self._failed.add(stage)
            self.notes.append(f"{stage}: cannot tell whether it is up to date: {error}")
            return None

    def markers(self, stage: str) -> dict[int, Marker]:
        """The readable markers of a stage."""
        markers = {n: self.snapshot.marker(stage, n) for n in self.shards.get(stage, ())}
        return {n: marker for n, marker in markers.items() if marker is not None}

    def table(self, stage: str, shard: int, folder: str, schema: pa.Schema) -> pa.Table | None:
        """A table of another shard than the checked one; None if it is missing or damaged."""
        marker = self.snapshot.marker(stage, shard)
        files = [f for f in marker.files if f.folder == folder] if marker else []
        try:
            return table(self.snapshot.load(files[0], again=True), schema) if files else None
        except Flaw:
            return None  # a finding of the shard that it belongs to


class CheckedShard:
    """A committed shard: its marker, its files, and what is found wrong with them.

    Attributes:
        number: The shard.
        marker: Its marker.
        findings: The findings so far.
    """

    def __init__(self, stage: str, number: int, marker: Marker, snapshot: Snapshot) -> None:
        """No file is read yet."""
        self.stage, self.number, self.marker = stage, number, marker
        self._snapshot = snapshot
        self._files: dict[str, bytes] | None = None
        self.findings: list[Finding] = []

    @property
    def files(self) -> dict[str, bytes]:
        """The contents of its intact files, by path."""
        return self._files if self._files is not None else self.read_files()

    def read_files(self) -> dict[str, bytes]:
        """Read its files; those that are missing or damaged give findings."""
        self._files = {}
        for file in self.marker.files:
            try:
                self._files[file.path] = self._snapshot.load(file)
            except Flaw as flaw:
                self.add(file.path, flaw.kind, str(flaw))
        return self._files

    def table(self, folder: str, schema: pa.Schema) -> pa.Table | None:
        """Its table in a folder; None if it has none, or a damaged one."""
        data = self.data(folder)
        if data is None:
            return None
        try:
            return table(data, schema)
        except Flaw as flaw:
            self.add(self.name(folder), flaw.kind, str(flaw))
            return None

    def data(self, folder: str) -> bytes | None:
        """Content of its file in a folder; None if it has none, or a damaged one."""
        return self.files.get(self.name(folder))

    def name(self, folder: str) -> str:
        """Path of its file in a folder; empty if it has none."""
        return self.marker.file(folder) or ""

    def add(self, file: str, kind: Kind, problem: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(self.stage, self.number, file, kind, problem))

    def add_damage(self, file: str, problems: Iterable[str]) -> None:
        """Add one finding for all problems of a file, if there are any."""
        problem = summarize(list(problems))
        if problem is not None:
            self.add(file, "damaged", problem)

    def add_for_marker(self, kind: Kind, problem: str) -> None:
        """Add a finding about the marker."""
        self.add(marker_name(self.stage, self.number), kind, problem)

    def compare_facts(self, expected: Mapping[str, object]) -> None:
        """Compare the facts in the marker with those that its rows give."""
        problems = [
            f"{name} is {self.marker.facts.get(name)!r}, but {value!r} in its rows"
            for name, value in expected.items()
            if self.marker.facts.get(name) != value
        ]
        self.add_damage(marker_name(self.stage, self.number), problems)

    def is_current(self, expected: str | None, problem: str) -> bool:
        """Whether it has the expected fingerprint; if not, the finding is ``problem``.

        ``expected`` is None if it is not known. The shard then counts as not current, without a
        finding.
        """
        if expected is not None and self.marker.fingerprint != expected:
            self.add_for_marker("stale", problem)
            return False
        return expected is not None
