"""The fingerprints that a recipe wants of committed shards, as the stages reckon them.

No model is loaded. A test holds them to the stages: of a run just finished nothing is stale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from synthvlm.data import fingerprint
from synthvlm.stages.calibrate import STAGE as CALIBRATE
from synthvlm.stages.curate import _fingerprint as _verdicts_fingerprint
from synthvlm.stages.export import _RECORDS, WHOLE
from synthvlm.stages.export import STAGE as EXPORT
from synthvlm.stages.measure import STAGE as MEASURE
from synthvlm.stages.measure import _content_fingerprint
from synthvlm.stages.model_rules import model_rule_fingerprint
from synthvlm.stages.original_images import hub_arguments, source_path
from synthvlm.stages.prompts import Prompt, image_fingerprint, shard_fingerprint
from synthvlm.stages.select import STAGE as SELECT
from synthvlm.stages.selected_pairs import SelectedPairs
from synthvlm.stages.text_rules import text_rule_fingerprints
from synthvlm.stages.written import is_written, stages_of, writer_fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.store import Marker, RunFolder

__all__ = ["Wanted"]

Markers = Mapping[int, "Marker"]


class Wanted:
    """What a recipe wants; what takes reading sources or models' files is reckoned once."""

    def __init__(self, run: RunFolder, recipe: Recipe) -> None:
        """Nothing is read yet."""
        self._run, self._recipe = run, recipe

    @cached_property
    def _content(self) -> str:
        return _content_fingerprint(self._recipe)

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
        return fingerprint(self._content, self._recipe.limit)

    def measure(self, shard: int, table: pa.Table) -> str:
        """Of a shard of captions as they were read."""
        written: list[tuple[str, str | None]] = []
        if any(is_written(source) for source in self._recipe.sources):
            pairs = zip(table["id"].to_pylist(), table["problem"].to_pylist(), strict=True)
            written = list(pairs)
        start = shard * self._recipe.run.shard_size
        return fingerprint(MEASURE, self._content, start, table.num_rows, written)

    def written(self, stage: str) -> str | None:
        """Of the parts of a source's captions; None: the recipe has no such source."""
        from synthvlm.captions.sources import source_digest

        sources = [s for s in self._recipe.sources if s.image_captioner is not None]
        source = dict(zip(stages_of(self._recipe), sources, strict=True)).get(stage)
        if source is None:
            return None
        content = source_digest(source_path(source), format=source.format, **hub_arguments(source))
        return fingerprint(content, source.format, writer_fingerprint(self._recipe, source))

    def model_measure(self, rule: str, measures: Marker) -> str:
        """Of a shard that a rule with a model measured."""
        return fingerprint(model_rule_fingerprint(self._recipe, rule), measures.fingerprint)

    def verdicts(self, measures: Markers) -> str:
        """Of all shards of verdicts."""
        return _verdicts_fingerprint(self._recipe, dict(measures))

    def calibration(self) -> str | None:
        """Of the calibration; None: the recipe has none."""
        adaptive = self._recipe.generation.adaptive
        if adaptive is None or adaptive.threshold is not None:
            return None
        scoring = self._recipe.scoring
        return fingerprint(
            CALIBRATE,
            self.shared,
            self._recipe.generation.candidates,
            adaptive.keep_gain,
            adaptive.sample,
            (scoring.clip.weight, scoring.ssim.weight),
        )

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
        return tuple(first - decay * index for index in range(count))

    def prompts(self, captions: pa.Table) -> list[Prompt]:
        """The kept captions of a shard."""
        columns = (captions[name].to_pylist() for name in ("id", "text", "kept"))
        return [
            Prompt(id, text, fingerprint(self.shared, id, text))
            for id, text, kept in zip(*columns, strict=True)
            if kept
        ]

    def candidates(self, thresholds: tuple[float, ...] | None, prompts: Sequence[Prompt]) -> str:
        """Of a shard of candidates."""
        return shard_fingerprint(self._recipe, self.shared, thresholds, prompts)

    def selection(self, generated: Markers) -> str:
        """Of the selection."""
        checksums = [
            (shard, file.checksum)
            for shard in sorted(generated)
            for file in generated[shard].files
            if file.path.startswith("candidates/")
        ]
        return fingerprint(SELECT, self._recipe.selection.model_dump(mode="json"), checksums)

    def parts(self, captions: Markers, generated: Markers) -> dict[int, str]:
        """Of each part of the data set.

        Raises:
            RunFolderError: The selection, or a file of pairs, cannot be read.
        """
        size = self._recipe.export.images_per_folder
        selected = SelectedPairs(self._run, captions, generated, size)
        settings = self._recipe.export.model_dump(mode="json")
        return {
            n: fingerprint(EXPORT, _RECORDS, settings, part.to_pydict(), selected.inputs(part))
            for n, part in enumerate(selected.parts())
        }

    def data_set(self, parts: Mapping[int, str]) -> str:
        """Of the data set as a whole."""
        settings = self._recipe.export.model_dump(mode="json")
        recipe = self._recipe.to_yaml()
        return fingerprint(WHOLE, _RECORDS, sorted(parts.items()), recipe, settings)
