"""Verdicts on captions, step by step: bounds, duplicates, rules with models, concepts.

Each step sees only captions that passed the steps before, so a rule with a model, which is
expensive, measures few captions, and each of them once.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from synthvlm.captions.rules import RULES
from synthvlm.captions.rules.base import TextRule
from synthvlm.data import caption_schema, measure_schema
from synthvlm.recipe import source_name
from synthvlm.run_folder.marker import model_measure_stage
from synthvlm.stages.curation.model_measure import measure_by_model, measured_values
from synthvlm.stages.curation.rules import (
    ALIGNMENT,
    bounds_of,
    language_bounds,
    model_rules_on,
    rules_without_images,
    text_rules_on,
)
from synthvlm.stages.curation.verdicts import (
    CONCEPTS,
    DUPLICATE,
    EMPTY,
    NEAR_DUPLICATE,
    UNMEASURED,
    UNREADABLE,
    Verdicts,
    balance_concepts,
    keep_best_aligned,
    refuse_equal_ids,
    refuse_nothing,
    reject_duplicates,
    reject_near_duplicates,
)
from synthvlm.stages.fingerprints import verdicts_fingerprint
from synthvlm.stages.summary import StageSummary

if TYPE_CHECKING:
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = [
    "CONCEPTS",
    "DUPLICATE",
    "EMPTY",
    "NEAR_DUPLICATE",
    "UNMEASURED",
    "UNREADABLE",
    "curate",
    "funnel_lines",
    "reasons_in_order",
    "reasons_on",
    "totals",
]

STAGE = "curate"
#: The fact that is no count: the fingerprint of the measures that a shard's verdicts are on.
_MEASURES = "measures"


def curate(
    run: RunFolder, recipe: Recipe, measures: dict[int, Marker], progress: Progress
) -> StageSummary:
    """Bring ``captions/`` up to date with the measures and the rules.

    The first rule that a caption fails names its rejection. Among equal (or nearly equal)
    texts that pass every model-free rule, the first in the order of sources and rows stays.

    Raises:
        CaptionSourceError: Two captions have the same id.
        ModelError: A rule's model cannot be used.
        TooManyFailuresError: A rule could not measure too many captions.
    """
    began = time.monotonic()
    expected = verdicts_fingerprint(recipe, measures)
    done = run.markers(STAGE)
    # One stale shard makes all stale: verdicts over the whole data set reach into each other.
    stale = not all(_is_current(done.get(shard), expected) for shard in measures)
    markers = {} if stale else {s: m for s, m in done.items() if s in measures}
    if stale:
        verdicts = Verdicts(run, measures)
        refuse_equal_ids(verdicts, [source_name(source) for source in recipe.sources])
        refuse_nothing(verdicts)
        _decide(run, recipe, verdicts, progress)
        progress.start(STAGE, len(measures), "shards")
        models = {name: run.markers(model_measure_stage(name)) for name in model_rules_on(recipe)}
        for shard in sorted(measures):
            of = measures[shard].fingerprint
            markers[shard] = _write(run, shard, verdicts, models, expected, of)
            progress.advance(1)
    run.sweep(STAGE, ["captions"], markers)
    counts = totals(markers)
    seconds = time.monotonic() - began
    if stale:
        run.event("stage", stage=STAGE, seconds=round(seconds, 3), rows=counts["captions"])
    return StageSummary(STAGE, len(measures), 0 if stale else len(measures), counts, seconds)


def reasons_on(recipe: Recipe) -> list[str]:
    """The steps of curation that a recipe has, in their order."""
    curation = recipe.curation
    on = {*text_rules_on(recipe), *model_rules_on(recipe)}
    on |= {DUPLICATE} if curation.deduplicate else set()
    on |= {NEAR_DUPLICATE} if curation.near_duplicates is not None else set()
    on |= {CONCEPTS} if curation.concepts is not None else set()
    return reasons_in_order(on)


def reasons_in_order(reasons: Iterable[str]) -> list[str]:
    """Reasons of rejections in the order in which they are decided; what is no step comes last."""
    reasons = set(reasons)
    text: list[str] = []
    model: list[str] = []
    for name in RULES.in_order(reasons):  # a plug-in that had no part need not be importable
        (text if issubclass(RULES[name], TextRule) else model).append(name)
    order = [
        UNREADABLE,
        EMPTY,
        *text,
        DUPLICATE,
        NEAR_DUPLICATE,
        *model,
        ALIGNMENT,
        UNMEASURED,
        CONCEPTS,
    ]
    places = {name: place for place, name in enumerate(order)}
    return sorted(reasons, key=lambda name: (places.get(name, len(order)), name))


def totals(markers: dict[int, Marker]) -> dict[str, int]:
    """Sums of the counts that each curated shard's marker holds."""
    sums: Counter[str] = Counter({"captions": 0, "kept": 0})
    for marker in markers.values():
        sums.update({name: n for name, n in marker.facts.items() if name != _MEASURES})
    return dict(sums)


def _decide(run: RunFolder, recipe: Recipe, verdicts: Verdicts, progress: Progress) -> None:
    curation = recipe.curation
    names = text_rules_on(recipe)
    verdicts.apply_text_bounds(bounds_of(recipe, names), language_bounds(recipe, names))
    if curation.deduplicate:
        reject_duplicates(verdicts)
    if curation.near_duplicates is not None:
        reject_near_duplicates(run, verdicts, curation.near_duplicates, progress)
    left_out = rules_without_images(recipe)
    if left_out:
        progress.note(
            f"note: {', '.join(left_out)}: no source names original images (sources.N.image_root, "
            f"sources.N.image_field), so all captions pass"
        )
    for name in model_rules_on(recipe):
        measure_by_model(run, recipe, name, verdicts, progress)
        if name == ALIGNMENT and curation.alignment is not None:
            values = partial(measured_values, run, name, run.markers(model_measure_stage(name)))
            keep_best_aligned(verdicts, values, curation.alignment.top_fraction, name)
    if curation.concepts is not None:
        balance_concepts(verdicts, curation.concepts, CONCEPTS)


def _is_current(marker: Marker | None, expected: str) -> bool:
    """Whether a shard is up to date; one with captions that could not be measured is not."""
    return (
        marker is not None
        and marker.fingerprint == expected
        and not marker.facts.get(UNMEASURED, 0)
    )


def _write(
    run: RunFolder,
    shard: int,
    verdicts: Verdicts,
    models: dict[str, dict[int, Marker]],
    expected: str,
    measured: str,
) -> Marker:
    import pyarrow as pa

    table = verdicts.table(shard)
    ids = table["id"].to_pylist()
    reasons = verdicts.reasons(shard)
    rules = table.schema.names[len(measure_schema()) :]
    for name, markers in models.items():
        known = measured_values(run, name, markers, shard)
        values = [None if np.isnan(known.get(id, np.nan)) else known[id] for id in ids]
        rules.append(name)
        table = table.append_column(name, pa.array(values, pa.float64()))
    problems = table["problem"].to_pylist()
    for row, problem in verdicts.problems[shard].items():
        problems[row] = problem
    place = table.schema.get_field_index("problem")
    table = table.set_column(place, "problem", pa.array(problems, pa.string()))
    twins = verdicts.twins[shard]
    kept = [reason is None for reason in reasons]
    for column, cells in (
        ("kept", pa.array(kept, pa.bool_())),
        ("rejected_by", pa.array(reasons.tolist(), pa.string())),
        ("duplicate_of", pa.array([twins.get(n) for n in range(len(ids))], pa.string())),
    ):
        table = table.append_column(column, cells)
    facts: dict[str, int | str] = {"captions": len(kept), "kept": sum(kept), _MEASURES: measured}
    facts |= Counter(sorted(reason for reason in reasons.tolist() if reason is not None))
    file = run.write_table("captions", shard, table.cast(caption_schema(rules)))
    return run.commit(STAGE, shard, expected, [file], facts)


def funnel_lines(run: RunFolder, recipe: Recipe, counts: Mapping[str, int]) -> list[str]:
    """One line per step that is on or rejected something, and a heading.

    Args:
        run: Its events hold how fast each rule last measured.
        recipe: The recipe.
        counts: Of ``curate.totals``.
    """
    rejecting = {name for name in counts if name not in ("captions", "kept")}
    steps = reasons_in_order(rejecting.union(reasons_on(recipe)))
    width = max(map(len, ["rule", *steps]))
    lines = [f"{'rule':<{width}}  {'in':>12}  {'out':>12}  {'passed':>7}  {'captions/s':>11}"]
    rates = _rates(run)
    left = counts["captions"]
    for name in steps:
        out = left - counts.get(name, 0)
        share = f"{out / left:.1%}" if left else "-"
        rate = f"{rates[name]:,.0f}" if name in rates else "-"
        lines.append(f"{name:<{width}}  {left:>12,}  {out:>12,}  {share:>7}  {rate:>11}")
        left = out
    return lines


def _rates(run: RunFolder) -> dict[str, float]:
    """Captions per second of each rule, when it last measured."""
    run.flush_events()
    return {
        event["rule"]: event["captions"] / event["seconds"]
        for event in run.events()
        if event.get("event") == "rule" and event.get("seconds")
    }
