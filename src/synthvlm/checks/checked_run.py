"""What all checks of shards share: what is read, what is wanted, and what is found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from synthvlm.checks.expected_fingerprints import Wanted
from synthvlm.checks.findings import Finding, Kind, summed
from synthvlm.checks.snapshot import Flaw, Snapshot, table
from synthvlm.errors import SynthVLMError
from synthvlm.run_folder.marker import Marker, marker_name

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe

__all__ = ["DISCARDED", "CheckedRun", "Files", "Found"]

#: Fingerprint of a shard of which damaged files were discarded: no recipe wants it.
DISCARDED = "damaged"
#: The sound files of a shard, by folder.
Files = Mapping[str, bytes]


class Found:
    """Collects what is found of one shard."""

    def __init__(self, stage: str, shard: int) -> None:
        """Nothing is found yet."""
        self._stage, self._shard = stage, shard
        self.all: list[Finding] = []

    def add(self, file: str, kind: Kind, problem: str) -> None:
        """One finding."""
        self.all.append(Finding(self._stage, self._shard, file, kind, problem))

    def damaged(self, file: str, problems: Iterable[str]) -> None:
        """One finding of all problems of a file, if there are any."""
        problem = summed(list(problems))
        if problem is not None:
            self.add(file, "damaged", problem)

    def marker(self, kind: Kind, problem: str) -> None:
        """A finding on the marker."""
        self.add(marker_name(self._stage, self._shard), kind, problem)

    def facts(self, marker: Marker, expected: Mapping[str, object]) -> None:
        """Compare what a marker says of its shard with what the shard's rows say."""
        wrong = [
            f"it says {name} {marker.facts.get(name)!r}, its rows {value!r}"
            for name, value in expected.items()
            if marker.facts.get(name) != value
        ]
        self.damaged(marker_name(self._stage, self._shard), wrong)


class CheckedRun:
    """Reads tables of shards, and compares fingerprints.

    Attributes:
        recipe: The recipe.
        look: Reads markers and files.
        wanted: Reckons fingerprints.
        measures: The markers of the measure stage, once the curate stage is checked.
        generated: Those of the generate stage that count, once the selection is checked.
    """

    def __init__(self, recipe: Recipe, look: Snapshot, wanted: Wanted) -> None:
        """Nothing is read yet."""
        self.recipe, self.look, self.wanted = recipe, look, wanted
        self.measures: dict[int, Marker] = {}
        self.generated: dict[int, Marker] = {}
        self._asked: dict[str, str] = {}

    @property
    def notes(self) -> list[str]:
        """What could not be told, and why."""
        return list(self._asked.values())

    def tell(self, stage: str, reckon: Callable[[], str | None]) -> str | None:
        """The fingerprint that the recipe wants; None where it wants none, or it cannot be told."""
        if stage in self._asked:
            return None
        try:
            return reckon()
        except (SynthVLMError, OSError, KeyError, TypeError, AttributeError) as error:
            # The last three: a marker before it says what no marker says, which is found there.
            self._asked[stage] = f"{stage}: whether it is up to date cannot be told: {error}"
            return None

    def table_of(
        self,
        found: Found,
        marker: Marker,
        data: Files,
        folder: str,
        schema: pa.Schema,
    ) -> pa.Table | None:
        """The table of a shard in a folder; None where it has none that is sound."""
        name = marker.file(folder)
        if name is None or folder not in data:
            return None
        try:
            return table(data[folder], schema)
        except Flaw as flaw:
            found.add(name, flaw.kind, str(flaw))
            return None

    def table_of_stage(
        self, stage: str, shard: int, folder: str, schema: pa.Schema
    ) -> pa.Table | None:
        """The same of another stage's shard, whose flaws are told there."""
        marker = self.look.marker(stage, shard)
        stored = [f for f in marker.files if f.folder == folder] if marker else []
        try:
            return table(self.look.load(stored[0], again=True), schema) if stored else None
        except Flaw:
            return None

    def compare(self, found: Found, marker: Marker, wanted: str | None, problem: str) -> bool:
        """Whether a shard is what the recipe wants, as far as that can be told."""
        if wanted is None or marker.fingerprint == wanted:
            return wanted is not None
        found.marker("stale", problem)
        return False
