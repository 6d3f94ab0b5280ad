"""The fingerprints that a recipe wants of committed shards, as the stages reckon them.

No model is loaded. A test holds them to the stages: of a run just finished nothing is stale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from synthvlm.stages.curation.curate import verdicts_fingerprint
from synthvlm.stages.curation.measure import (
    content_fingerprint,
    measured_fingerprint,
    sources_fingerprint,
)
from synthvlm.stages.curation.model_measure import measured_by
from synthvlm.stages.curation.rules import model_rule_fingerprint, text_rule_fingerprints
from synthvlm.stages.curation.written import stages_of, written_fingerprint
from synthvlm.stages.export import SelectedPairs, part_fingerprints, whole_fingerprint
from synthvlm.stages.generation.calibrate import calibration_fingerprint, falling_thresholds
from synthvlm.stages.generation.prompts import (
    Prompt,
    image_fingerprint,
    prompts_of,
    shard_fingerprint,
)
from synthvlm.stages.select import selection_fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = ["Wanted"]

Markers = Mapping[int, "Marker"]


class Wanted:
    """What a recipe wants; what takes reading sources or models' files is reckoned once."""

    def __init__(self, run: RunFolder, recipe: Recipe) -> None:
        """Nothing is read yet."""
        self._run, self._recipe = run, recipe

    @cached_property
    def _content(self) -> str:
        return content_fingerprint(self._recipe)

    @cached_property
    def text_rules(self) -> dict[str, str]:
        """Of each model-free rule."""
        return text_rule_fingerprints(self._recipe)

    @cached_property
    def shared(self) -> str:
        """What every image depends on."""
        return image_fingerprint(self._recipe)

    def sources(self) -> str:
        """Of the marker that says that all sources are read."""
        return sources_fingerprint(self._recipe, self._content)

    def measure(self, shard: int, table: pa.Table) -> str:
        """Of a shard of captions as they were read."""
        rows = zip(table["id"].to_pylist(), table["problem"].to_pylist(), strict=True)
        return measured_fingerprint(self._recipe, self._content, shard, list(rows))

    def written(self, stage: str) -> str | None:
        """Of the parts of a source's captions; None: the recipe has no such source."""
        sources = [s for s in self._recipe.sources if s.image_captioner is not None]
        source = dict(zip(stages_of(self._recipe), sources, strict=True)).get(stage)
        return None if source is None else written_fingerprint(self._recipe, source)

    def model_measure(self, rule: str, measures: Marker) -> str:
        """Of a shard that a rule with a model measured."""
        return measured_by(model_rule_fingerprint(self._recipe, rule), measures)

    def verdicts(self, measures: Markers) -> str:
        """Of all shards of verdicts."""
        return verdicts_fingerprint(self._recipe, measures)

    def calibration(self) -> str | None:
        """Of the calibration; None: the recipe has none."""
        adaptive = self._recipe.generation.adaptive
        if adaptive is None or adaptive.threshold is not None:
            return None
        return calibration_fingerprint(self._recipe, adaptive, self.shared)

    def thresholds(self, calibration: Marker | None) -> tuple[float, ...] | None:
        """Those of adaptive best-of-k, from the recipe or the calibration's marker."""
        adaptive, count = self._recipe.generation.adaptive, self._recipe.generation.candidates
        if adaptive is None:
            return None
        first, decay = adaptive.threshold, adaptive.decay
        if first is None:
            if calibration is None or calibration.fingerprint != self.calibration():
                return None
            first, decay = calibration.facts["threshold"], calibration.facts["decay"]
        return falling_thresholds(first, decay, count)

    def prompts(self, captions: pa.Table) -> list[Prompt]:
        """The kept captions of a shard."""
        return prompts_of(captions, self.shared)

    def candidates(self, thresholds: tuple[float, ...] | None, prompts: Sequence[Prompt]) -> str:
        """Of a shard of candidates."""
        return shard_fingerprint(self._recipe, self.shared, thresholds, prompts)

    def selection(self, generated: Markers) -> str:
        """Of the selection."""
        return selection_fingerprint(self._recipe, generated)

    def parts(self, captions: Markers, generated: Markers) -> dict[int, str]:
        """Of each part of the data set.

        Raises:
            RunFolderError: The selection, or a file of pairs, cannot be read.
        """
        size = self._recipe.export.images_per_folder
        return part_fingerprints(self._recipe, SelectedPairs(self._run, captions, generated, size))

    def data_set(self, parts: Mapping[int, str]) -> str:
        """Of the data set as a whole."""
        return whole_fingerprint(self._recipe, parts)
