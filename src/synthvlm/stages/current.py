"""What in a run folder still counts: decided here, for every command that reads one.

The folder alone decides: its recipe, its markers, its tables. Caption files and local models are
compared as well, where they are on this machine. What cannot be told here counts as current, so
that a finished data set can be published from a machine that has neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthvlm.components.settings import named_models
from synthvlm.errors import RunFolderError, SynthVLMError
from synthvlm.models.model_files import located
from synthvlm.progress.stage_state import set_aside
from synthvlm.run_folder.marker import shard_of
from synthvlm.run_folder.marks import Marks, read_marks
from synthvlm.stages.curation.resources import is_written
from synthvlm.stages.curation.rules import model_rules_on
from synthvlm.stages.data_set_fingerprints import part_fingerprints, selection_fingerprint
from synthvlm.stages.export import is_current_data_set
from synthvlm.stages.fingerprints import (
    GENERATOR_PART,
    UNFINISHED,
    content_fingerprint,
    image_dependencies,
    image_fingerprint,
    images_and_captions_fingerprint,
    recorded_fingerprint,
    scorer_part,
    sources_fingerprint,
    target_fingerprint,
    text_rule_fingerprints,
    verdicts_fingerprint,
)
from synthvlm.stages.generation.calibrate import calibrated_fingerprint
from synthvlm.stages.generation.prompts import read_prompts, taken_captions
from synthvlm.stages.image_marks import UNMARKED, ImageMarks, is_unmarked
from synthvlm.stages.selected_pairs import SelectedPairs

if TYPE_CHECKING:
    from synthvlm.components.settings import Settings
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = [
    "CurrentWork",
    "Outdated",
    "check_none_gone",
    "check_signing",
    "lost_shards",
    "present_shards",
]


def present_shards(
    captions: Mapping[int, Marker], generated: Mapping[int, Marker], lost: Iterable[int]
) -> dict[int, Marker]:
    """The generated shards that are part of the data set.

    Those beyond a lowered limit keep their images, but do not count; nor does what an earlier run
    generated of a shard that was set aside.

    Args:
        captions: Markers of the stage curate.
        generated: Markers of the stage generate.
        lost: Shards that are set aside.
    """
    lost = set(lost)
    return {n: m for n, m in sorted(generated.items()) if n in captions and n not in lost}


def lost_shards(events: Iterable[Mapping[str, Any]]) -> set[int]:
    """Shards of the stage generate that are set aside, given the events of a run."""
    return {int(event["shard"]) for event in set_aside(events) if event.get("stage") == "generate"}


def check_none_gone(
    captions: Mapping[int, Marker], generated: Mapping[int, Marker], lost: Iterable[int]
) -> None:
    """Check, right after the stage generate, that what it finished is still there.

    Raises:
        RunFolderError: Files of a shard are gone.
    """
    gone = sorted(captions.keys() - generated.keys() - set(lost))
    if gone:
        raise RunFolderError(
            f"the candidates of shard {gone[0]} are no longer there: something removed them while "
            f"the run worked; run again, what is finished is kept"
        )


@dataclass(frozen=True, slots=True)
class Outdated:
    """The first stage whose results are not those of the recipe and the stages before it."""

    stage: str
    reason: str


class CurrentWork:
    """The shards of a run folder that are what its recipe and earlier stages ask for.

    Attributes:
        measures: Markers of the stage measure.
        captions: Markers of the stage curate.
        generated: Markers of the stage generate that were made of these captions.
    """

    def __init__(self, run: RunFolder, recipe: Recipe) -> None:
        """Read the markers, and the kept captions.

        Raises:
            RunFolderError: The folder cannot be read.
        """
        self._run, self._recipe = run, recipe
        self.measures = run.markers("measure")
        self.captions = {n: m for n, m in run.markers("curate").items() if n in self.measures}
        self._calibration = run.marker("calibrate", 0)
        self._taken = taken_captions(recipe, run.marker("target", 0))
        #: Of any captions, those beyond a lowered limit too.
        self._all_generated = run.markers("generate")
        self.generated = {
            shard: marker
            for shard, marker in present_shards(self.captions, self._all_generated, ()).items()
            if self._is_of(shard, marker)
        }

    @cached_property
    def lost(self) -> set[int]:
        """Shards of the stage generate that are set aside."""
        return lost_shards(self._run.events())

    @cached_property
    def exported(self) -> dict[int, Marker]:
        """The markers of the parts of the data set, current or not."""
        return self._run.markers("export")

    @cached_property
    def parts(self) -> dict[int, str]:
        """Expected fingerprints of the parts of the data set."""
        selected = SelectedPairs(self._run, self._recipe, self.captions, self.generated)
        return part_fingerprints(self._recipe, selected)

    @cached_property
    def outdated(self) -> Outdated | None:
        """The first stage that is not current; None if the data set is.

        Candidates that failed, captions that could not be measured or written, and shards that are
        set aside are tried again by the next run, but a data set without them is current.
        """
        checks: dict[str, Callable[[], str | None]] = {
            "measure": self._measure,
            "curate": self._curate,
            "generate": self._generate,
            "select": self._select,
            "export": self._export,
        }
        for stage, check in checks.items():
            if self._has_lost_files(stage):
                return None  # what the data set was made of is not known any more
            reason = check()
            if reason is not None:
                return Outdated(stage, reason)
        return None

    def _has_lost_files(self, stage: str) -> bool:
        shards = {
            "measure": self.measures,
            "curate": self.captions,
            "generate": self._all_generated,
        }
        if stage not in shards:
            return False
        listed = {shard_of(name) for name in self._run.listing(f"done/{stage}")}
        return bool(listed - shards[stage].keys())

    def _measure(self) -> str | None:
        total = self._run.marker("sources", 0)
        if not self.measures:
            return "no captions are read"
        if total is None:  # captions that could not be written are tried again
            return None
        if sorted(self.measures) != list(range(int(total.facts["shards"]))):
            return "some of its captions are not read"
        recipe = self._recipe
        if all(_is_local_file(source) for source in recipe.sources) and _differs(
            lambda: sources_fingerprint(recipe, content_fingerprint(recipe)) == total.fingerprint
        ):
            return "its captions, or how they are read, have changed since"
        if _differs(self._has_text_measures):
            return "the settings of its rules have changed since"
        return None

    def _has_text_measures(self) -> bool:
        expected = text_rule_fingerprints(self._recipe).items()
        return all(expected <= marker.facts["rules"].items() for marker in self.measures.values())

    def _curate(self) -> str | None:
        if len({marker.fingerprint for marker in self.captions.values()}) > 1 or (
            self.captions.keys() != self.measures.keys()
        ):
            return "captions were read that its rules have not judged"
        for shard, marker in self.captions.items():
            # Markers of earlier versions do not say what they were made of.
            known = marker.facts.get("measures")
            if known not in (None, self.measures[shard].fingerprint):
                return "captions were read that its rules have not judged"
        # What a rule with a model measures depends on the device, which may be another one here.
        if not model_rules_on(self._recipe) and _differs(self._has_verdicts):
            return "the settings of curation have changed since"
        return None

    def _has_verdicts(self) -> bool:
        expected = verdicts_fingerprint(self._recipe, self.measures)
        return all(marker.fingerprint == expected for marker in self.captions.values())

    def _generate(self) -> str | None:
        missing = self.captions.keys() - self.generated.keys()
        if missing and missing - self.lost:
            return "its captions, or their candidates, have changed since"
        if self._recipe.target is not None and _differs(self._has_target):
            return "the target, or what its pairs are counted by, has changed since"
        pending = sum(int(marker.facts.get("pending", 0)) for marker in self.generated.values())
        if pending:
            return f"{pending:,} candidates are pending: the run was stopped"
        dependencies = _differs_in(self._recipe)
        for marker in self.generated.values():
            before = marker.facts.get("depends")
            changed = [
                part for part, now in dependencies.items() if before and before.get(part) != now
            ]
            if changed:
                return f"{changed[0]} changed since"
        return None

    def _has_target(self) -> bool:
        marker, recipe = self._run.marker("target", 0), self._recipe
        depends = images_and_captions_fingerprint(recipe, self.captions)
        return marker is not None and marker.fingerprint == target_fingerprint(
            recipe, depends, self._marks
        )

    def _is_of(self, shard: int, marker: Marker) -> bool:
        """Whether candidates were made of a shard of captions, with the settings of the recipe.

        Models are taken to be those of that time: they may be on another machine.
        """
        recipe, before = self._recipe, marker.facts.get("depends")
        try:
            if before is None:  # of an earlier version
                shared: str | None = image_fingerprint(recipe)
            else:
                shared = recorded_fingerprint(recipe, before)
            if shared is None:
                return False
        except (SynthVLMError, OSError):
            return True
        prompts = read_prompts(self._run, shard, self.captions[shard], shared, self._taken)
        expected = calibrated_fingerprint(recipe, shared, self._calibration, prompts)
        return expected == marker.fingerprint.removeprefix(UNFINISHED)

    def _select(self) -> str | None:
        marker = self._run.marker("select", 0)
        if marker is None:
            return "no pairs are selected"
        # Reference images may lie on another machine.
        if _differs(lambda: marker.fingerprint == self._selection_fingerprint()):
            return "its candidates, marks, or the settings of selection, have changed since"
        return None

    @cached_property
    def _marks(self) -> Marks:
        return read_marks(self._run)

    def _selection_fingerprint(self) -> str:
        return selection_fingerprint(self._recipe, self.captions, self.generated, self._marks)

    def _is_current_data_set(self, final: Marker) -> bool:
        return is_current_data_set(
            self._recipe, self.parts, self.captions, self.generated, self._marks, final
        )

    def _export(self) -> str | None:
        final = self._run.marker("dataset", 0)
        if final is None:
            return "it is not exported"
        if any(map(is_unmarked, self.exported.values())):
            return UNMARKED
        if {n: m.fingerprint for n, m in self.exported.items()} != self.parts:
            return "another selection was made since, or other settings of export"
        if _differs(lambda: self._is_current_data_set(final)):
            return "its recipe, or what its card says, has changed since"
        return None


def check_signing(run: RunFolder, recipe: Recipe) -> None:
    """Check that images can be signed where the recipe asks for it, before any is generated.

    A finished data set is signed: its certificate and key may be on another machine.

    Raises:
        MissingExtraError: The package that signs is not installed.
        RecipeError: The certificate or its key cannot be used.
    """
    try:
        _ = ImageMarks(recipe).signer
    except SynthVLMError:
        if CurrentWork(run, recipe).outdated is not None:
            raise


def _differs(is_equal: Callable[[], bool]) -> bool:
    """Whether something was compared and is not equal; False where it cannot be read here."""
    try:
        return not is_equal()
    except (SynthVLMError, OSError, KeyError):
        return False


def _is_local_file(source: Any) -> bool:
    return "://" not in source.path and source.format != "huggingface" and not is_written(source)


def _differs_in(recipe: Recipe) -> dict[str, str]:
    """What every image depends on, as far as it can be told on this machine.

    The name of a model that is no folder here may be that of a folder elsewhere.
    """
    try:
        dependencies = image_dependencies(recipe)
    except (SynthVLMError, OSError):
        return {}
    generation = recipe.generation
    generator: list[Settings | None] = [
        generation.generator_settings, generation, generation.refiner, *generation.loras,
    ]  # fmt: skip
    sections: dict[str, list[Settings | None]] = {
        GENERATOR_PART: generator,
        **{scorer_part(name): [settings] for name, settings in recipe.scorers.items()},
    }
    unknown = {
        part
        for part, settings in sections.items()
        for one in settings
        if one is not None
        and not all(Path(located(n, mark)).exists() for n, _, mark in named_models(one))
    }
    return {part: value for part, value in dependencies.items() if part not in unknown}
