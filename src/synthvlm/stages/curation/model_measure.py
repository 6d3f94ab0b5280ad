"""Measure the captions that are still in by a rule with a model, shard by shard.

What was measured before is kept: only captions that no earlier pass measured are asked about, and
those that failed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synthvlm.captions.rules.base import Subject, check_measured
from synthvlm.components.contract import contract
from synthvlm.data import PLAIN_CAPTION, model_measure_schema
from synthvlm.errors import TooManyFailuresError
from synthvlm.run_folder.marker import model_measure_stage
from synthvlm.stages.curation.resources import OriginalImages
from synthvlm.stages.curation.rules import (
    bounds_of,
    language_bounds,
    load_model_rule,
    looks_at_images,
)
from synthvlm.stages.curation.verdicts import UNMEASURED
from synthvlm.stages.fingerprints import model_measure_fingerprint, model_rule_fingerprint

if TYPE_CHECKING:
    from synthvlm.captions.readers.sources import OriginalImage
    from synthvlm.captions.rules.base import Measured, ModelRule
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder
    from synthvlm.stages.curation.verdicts import Verdicts

__all__ = ["measure_by_model", "measured_values"]

#: Captions on which a rule is tried before a shard of many more.
_TRIED = 8


@dataclass(frozen=True, slots=True)
class _Measured:
    value: float
    problem: str | None


def measure_by_model(
    run: RunFolder,
    recipe: Recipe,
    name: str,
    verdicts: Verdicts,
    progress: Progress,
) -> None:
    """Bring a rule's measures of the surviving captions up to date, and apply its bounds.

    Raises:
        ModelError: The model cannot be used.
        TooManyFailuresError: More captions failed than ``run.max_failed_share`` allows.
    """
    began = time.monotonic()
    total = verdicts.remaining()
    progress.start(name, total, "captions")
    allowed = math.ceil(recipe.run.max_failed_share * total)
    failed = without_image = 0
    first: str | None = None
    bounds = bounds_of(recipe, [name]) or {name: (None, None)}
    in_languages = language_bounds(recipe, [name])
    with ExitStack() as resources:
        work = _RulePass(run, recipe, name, resources)
        for shard in verdicts.measures:
            rows = verdicts.surviving(shard)
            known = work.shard(shard, rows, verdicts)
            values = {name: np.array([one.value for one in known])}
            reasons = verdicts.failed_rule(shard, rows, values, bounds, in_languages)
            problems = _decide(shard, rows, known, reasons, verdicts)
            failed += len(problems)
            # Where there is no problem, the rule does not apply.
            without_image += sum(math.isnan(one.value) for one in known) - len(problems)
            first = first or next(iter(problems), None)
            if failed > allowed:
                raise TooManyFailuresError(
                    f"{name}: {failed} captions could not be measured, more than "
                    f"run.max_failed_share ({recipe.run.max_failed_share}) allows; the first: "
                    f"{first}; fix the cause and run again, what is finished is kept"
                )
            progress.advance(len(rows))
    stage = model_measure_stage(name)
    run.sweep(stage, [stage], run.markers(stage))
    if without_image and looks_at_images(name):
        progress.note(
            f"note: {name}: {without_image} of {total} captions have no original image at hand, "
            f"and pass; if they have some: --set sources.N.image_root=FOLDER"
        )
    if failed:
        progress.note(f"warning: {name}: {failed} captions could not be measured: {first}")
    if work.measured:
        seconds = round(time.monotonic() - began, 3)
        run.event("rule", rule=name, seconds=seconds, captions=work.measured)


def _decide(
    shard: int,
    rows: np.ndarray,
    known: Sequence[_Measured],
    reasons: np.ndarray,
    verdicts: Verdicts,
) -> list[str]:
    """Reject what fails the bounds or could not be measured; returns the problems."""
    for name in {*reasons} - {None}:
        verdicts.reject(shard, rows[reasons == name], name)
    problems = {int(row): one.problem for row, one in zip(rows, known, strict=True) if one.problem}
    verdicts.problems[shard] |= problems
    verdicts.reject(shard, list(problems), UNMEASURED)
    return list(problems.values())


def measured_values(
    run: RunFolder, name: str, markers: Mapping[int, Marker], shard: int
) -> dict[str, float]:
    """A rule's measures of a shard by caption id; NaN where it does not apply, or failed."""
    known = _read(run, name, markers.get(shard))
    return {id: entry.value for id, entry in known.items()}


class _RulePass:
    """A pass of one rule over all shards; the model is loaded when a caption needs it."""

    def __init__(self, run: RunFolder, recipe: Recipe, name: str, resources: ExitStack) -> None:
        self._resources = resources
        self._run, self._recipe, self._name = run, recipe, name
        self._fingerprint = model_rule_fingerprint(recipe, name)
        self._done = run.markers(model_measure_stage(name))
        self._rule: ModelRule | None = None
        self._images = OriginalImages(recipe) if looks_at_images(name) else None
        self.measured = 0

    def shard(self, shard: int, rows: np.ndarray, verdicts: Verdicts) -> list[_Measured]:
        """Measure what is missing of some rows of a shard and commit it; one result per row."""
        expected = model_measure_fingerprint(self._fingerprint, verdicts.measures[shard])
        marker = self._done.get(shard)
        if marker is not None and marker.fingerprint != expected:
            marker = None
        known = _read(self._run, self._name, marker)
        table = verdicts.table(shard, ["id", "text", "source", "row"]).take(rows)
        ids = table["id"].to_pylist()
        missing = [n for n, id in enumerate(ids) if id not in known or known[id].problem]
        if missing:
            known |= self._measure(table.take(missing).to_pylist())
            self._commit(shard, expected, known)
        return [known[id] for id in ids]

    def _measure(self, rows: list[dict[str, Any]]) -> dict[str, _Measured]:
        known: dict[str, _Measured] = {}
        asked: list[tuple[str, Subject]] = []
        for row, image in zip(rows, self._images_of(rows), strict=True):
            if image is not None and image.problem is not None:
                known[row["id"]] = _Measured(math.nan, image.problem)
            elif image is not None and image.data is None:
                known[row["id"]] = _Measured(
                    math.nan, None
                )  # no original image: the rule is not for it
            else:
                asked.append((row["id"], Subject(row["text"], image.data if image else None)))
        if asked:
            subjects = [subject for _, subject in asked]
            if self._rule is None:
                self._rule = load_model_rule(self._run, self._recipe, self._name, self._resources)
                if len(subjects) > 8 * _TRIED:
                    self._try(subjects[:_TRIED])
            measured = self._ask(subjects)
            values, problems = measured.values.tolist(), measured.problems
            for (id, _), value, problem in zip(asked, values, problems, strict=True):
                known[id] = _Measured(value, problem)
        self.measured += len(asked)
        return known

    def _ask(self, subjects: list[Subject]) -> Measured:
        assert self._rule is not None
        with contract("rule", self._name):
            measured = self._rule.measure(subjects)
        check_measured(self._name, measured, len(subjects))
        return measured

    def _try(self, subjects: list[Subject]) -> None:
        """Stop where a rule fails on all of a few captions, and on a plain one in their place.

        The results are not used: a rule that runs here measures within rounding in other batches
        than these, and the replies of an endpoint are stored.
        """
        problems = self._ask(subjects).problems
        if all(problems):
            (problem,) = self._ask([Subject(PLAIN_CAPTION, subjects[0].image)]).problems
            if problem:
                raise TooManyFailuresError(
                    f"{self._name}: no caption can be measured, not even {PLAIN_CAPTION!r}: "
                    f"{problem}; fix the cause and run again"
                )

    def _images_of(self, rows: list[dict[str, Any]]) -> Sequence[OriginalImage | None]:
        if self._images is None:
            return [None] * len(rows)
        return self._images.of([(row["source"], row["row"]) for row in rows])

    def _commit(self, shard: int, expected: str, known: Mapping[str, _Measured]) -> None:
        import pyarrow as pa

        stage = model_measure_stage(self._name)
        columns = {
            "id": list(known),
            "value": [entry.value for entry in known.values()],
            "problem": [entry.problem for entry in known.values()],
        }
        table = pa.Table.from_pydict(columns, model_measure_schema())
        file = self._run.write_table(stage, shard, table)
        self._run.commit(stage, shard, expected, [file], {"captions": len(known)})


def _read(run: RunFolder, name: str, marker: Marker | None) -> dict[str, _Measured]:
    if marker is None:
        return {}
    file = marker.file(model_measure_stage(name))
    assert file is not None
    rows = run.read_table(file).to_pylist()
    return {row["id"]: _Measured(row["value"], row["problem"]) for row in rows}
