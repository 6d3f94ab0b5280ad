"""The report of a curation: what each step rejected and narrowly kept, to read before any image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

from synthvlm.data import fingerprint
from synthvlm.report.charts import measure_histogram
from synthvlm.report.curation import (
    Distribution,
    Funnel,
    NearDuplicate,
    read_distributions,
    read_funnel,
    read_near_duplicates,
)
from synthvlm.report.render import FunnelRow, render_page, rule_label, run_name, step_rows
from synthvlm.stages.curation.advice import moved_bounds
from synthvlm.stages.curation.curate import NEAR_DUPLICATE

if TYPE_CHECKING:
    from markupsafe import Markup

    from synthvlm.recipe import Recipe
    from synthvlm.report.curation import Borderline
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = ["CURATION_FILE", "write_curation_report"]

CURATION_FILE = "report/curation.html"
#: Captions to read of each step, and on each side of a rule's bounds.
_REJECTED, _NEAREST = 20, 12


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the page shows of a curation; parts of templates know it as ``facts``."""

    funnel: Funnel
    near_duplicates: tuple[NearDuplicate, ...]


@dataclass(frozen=True, slots=True)
class _Section:
    """A step of curation on the page; a step that is no rule has no measure."""

    reason: str
    row: FunnelRow
    rule: Distribution | None
    chart: Markup | None
    rejected: Sequence[Borderline]
    kept: Sequence[Borderline]

    @classmethod
    def of(cls, reason: str, row: FunnelRow, rule: Distribution | None) -> _Section:
        if rule is None:
            return cls(reason, row, None, None, (), ())
        # Where a bound is 0, all that is kept lies on it.
        nearest = [one for one in rule.borderline if one.measure or 0 not in rule.bounds]
        rejected = [one for one in nearest if one.rejected]
        kept = [one for one in nearest if not one.rejected]
        chart = measure_histogram(rule, label=row.label)
        return cls(reason, row, rule, chart, rejected, kept)


def write_curation_report(run: RunFolder, recipe: Recipe, curated: Mapping[int, Marker]) -> str:
    """Bring ``report/curation.html`` up to date with ``captions/``.

    Args:
        run: The run folder.
        recipe: The recipe that the captions were curated with.
        curated: Markers of the stage curate, at least one.

    Returns:
        Its path or URL.

    Raises:
        RunFolderError: A table is damaged, or the page cannot be written.
    """
    verdicts = [
        (shard, marker.fingerprint, [file.checksum for file in marker.files])
        for shard, marker in sorted(curated.items())
    ]
    state = fingerprint("curation report", version("synthvlm"), run_name(run), verdicts)
    is_current = run.exists(CURATION_FILE) and state.encode() in run.read(CURATION_FILE)
    if not is_current:
        page = _render(run, recipe, curated, state)
        run.write(CURATION_FILE, page.encode("utf-8", "replace"))
    return run.path(CURATION_FILE)


def _render(run: RunFolder, recipe: Recipe, curated: Mapping[int, Marker], state: str) -> str:
    funnel = read_funnel(run, recipe, curated, _REJECTED)
    twins = read_near_duplicates(run, curated) if funnel.removed(NEAR_DUPLICATE) else ()
    rules = {rule.name: rule for rule in read_distributions(run, recipe, curated, _NEAREST)}
    total, kept = funnel.captions, funnel.kept
    rows = [FunnelRow("Captions read", "", total, 0, total)]
    sections = []
    for step, row in zip(funnel.steps, step_rows(funnel, recipe), strict=True):
        rule = rules.get(step.reason)
        is_shown = rule is not None or bool(row.removed)
        row = replace(row, anchor=f"step-{step.reason}" if is_shown else "")
        rows.append(replace(row, samples=()))  # they are in its section
        if is_shown:
            sections.append(_Section.of(step.reason, row, rule))
    rows.append(FunnelRow("Captions kept", "become prompts", kept, 0, total))
    return render_page(
        "curation.html.jinja",
        when=None,
        name=run_name(run),
        state=state,
        facts=_Facts(funnel, twins),
        rows=rows,
        sections=sections,
        bounds=[(rule_label(bound.rule), bound) for bound in moved_bounds(run, recipe, curated)],
    )
