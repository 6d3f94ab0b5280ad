"""Renders the report: from facts to one HTML page."""

from __future__ import annotations

import base64
import hashlib
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from synthvlm.captions.rules import RULES
from synthvlm.components.settings import Settings, named_models, published_name
from synthvlm.components.table import Table
from synthvlm.data import remark_column, score_column
from synthvlm.generators import GENERATORS
from synthvlm.report.charts import histogram, measure_histogram, rising_line
from synthvlm.report.collect import Facts, ScoreFacts, collect
from synthvlm.report.pages import page_environment
from synthvlm.report.published import PUBLISHED, differences
from synthvlm.run_folder.folder import RECIPE_FILE
from synthvlm.scorers import SCORERS, scorer_label
from synthvlm.scorers.clip import ClipSettings
from synthvlm.scorers.ssim import SsimSettings
from synthvlm.stages.curation.curate import (
    CONCEPTS,
    DUPLICATE,
    EMPTY,
    NEAR_DUPLICATE,
    UNMEASURED,
    UNREADABLE,
)
from synthvlm.stages.curation.curated import REASONS, bounds_in_words
from synthvlm.stages.curation.rules import ALIGNMENT

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.report.curation import Funnel, Sample
    from synthvlm.run_folder.folder import RunFolder

__all__ = [
    "FunnelRow",
    "render",
    "render_page",
    "rule_label",
    "run_name",
    "step_rows",
    "write_report",
]

STAGE = "report"
REPORT_FILE = "report/index.html"
#: Maximum length of a caption, and of a name, on the page, in characters.
_TEXT_LIMIT, _NAME_LIMIT = 4000, 200

#: Labels of steps of curation that are not rules.
_STEP_LABELS = {
    UNREADABLE: "Unreadable rows",
    EMPTY: "Empty captions",
    DUPLICATE: "Duplicates",
    NEAR_DUPLICATE: "Near-duplicates",
    UNMEASURED: "Not measured",
    ALIGNMENT: "Alignment",
    CONCEPTS: "Concept balancing",
}


@dataclass(frozen=True, slots=True)
class FunnelRow:
    """A bar of the funnel: ``kept`` and ``removed`` of ``total`` captions (or images)."""

    label: str
    detail: str
    kept: int
    removed: int
    total: int
    samples: Sequence[Sample] = ()
    measured: bool = False
    unit: str = "captions"
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class _Named:
    """A component as the head of the page names it: its label, version and models."""

    label: str
    about: str

    @classmethod
    def of(cls, table: Table[Any], name: str, settings: Settings) -> _Named:
        release = table.release(name)
        parts = [] if release is None else [f"plug-in {name}, {' '.join(release)}"]
        parts += [published_name(model) for model, _, _ in named_models(settings)]
        return cls(table.label(name), ", ".join(parts))


def _plugin_generator(recipe: Recipe) -> _Named | None:
    name = recipe.generation.generator_name
    if GENERATORS.release(name) is None:
        return None
    return _Named.of(GENERATORS, name, recipe.generation.generator_settings)


def write_report(run: RunFolder, recipe: Recipe, progress: Progress) -> None:
    """Write ``report/index.html`` from the run folder, however far the run is.

    Args:
        run: The run folder.
        recipe: The recipe that the run was done with.
        progress: Shows progress.

    Raises:
        RunFolderError: A table is damaged, or the page cannot be written.
    """
    progress.start(STAGE, 2, "parts")
    facts = collect(run, recipe)
    progress.advance(1)
    page = render(facts, recipe, run_name(run)).encode("utf-8", "replace")
    run.write(REPORT_FILE, page)
    progress.advance(1)
    progress.finish(STAGE, f"{run.path(REPORT_FILE)} ({len(page) / 2**20:.1f} MiB)")


def run_name(run: RunFolder) -> str:
    """The name of a run: that of its folder."""
    return posixpath.basename(posixpath.dirname(run.path(RECIPE_FILE)))


def render(facts: Facts, recipe: Recipe, name: str) -> str:
    """The page as HTML.

    Args:
        facts: From ``collect``.
        recipe: The recipe that the run was done with.
        name: Name of the run, for the title.
    """
    shown = recipe.published()
    when = None if facts.as_of is None else datetime.fromtimestamp(facts.as_of, UTC)
    return render_page(
        "report.html.jinja",
        name=name,
        facts=facts,
        recipe=shown,
        when=when,
        rows=_curation_rows(facts, recipe) + _image_rows(facts, recipe),
        score_labels=_score_labels(recipe),
        remark_labels={
            remark_column(name): SCORERS.label(name) for name in recipe.scorers_with_remarks
        },
        plugin_generator=_plugin_generator(recipe),
        scorers=[_Named.of(SCORERS, name, one) for name, one in recipe.scorers.items()],
        rule_charts=[
            (
                rule_label(m.name),
                m,
                measure_histogram(m, label=rule_label(m.name)),
            )
            for m in facts.measures
        ],
        charts=[_histogram(score, _score_labels(recipe)) for score in facts.scores],
        best_of_chart=_best_of(facts),
        formula=" + ".join(
            f"{scorer.weight:g} · {scorer_label(name, scorer)}"
            for name, scorer in recipe.scorers.items()
        ),
        published=_published(shown, facts),
        yaml=shown.to_yaml(),
    )


def render_page(template: str, *, when: datetime | None, **values: object) -> str:
    """A page of a run: one file, which loads nothing.

    Args:
        template: Name of its template.
        when: When the run last did something, as far as that is known.
        values: What the template shows.
    """
    environment = _environment()
    script = environment.get_template("report.js").render()
    # The content-security policy of the page allows this script only, by its hash.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template(template).render(
        script=script, script_digest=digest, when=when, **values
    )


@cache
def _environment() -> jinja2.Environment:
    environment = page_environment(("synthvlm.report", "templates"))
    environment.filters.update(
        count=lambda value: f"{value:,}",
        share=_share,
        score=lambda value: "n/a" if value is None else f"{value:.3f}",
        change=lambda value: f"{value:+.3f}",
        duration=_duration,
        rate=_rate,
        clip_text=_clip_text,
        clip_name=_clip_name,
        quantile=_quantile,
    )
    return environment


def _curation_rows(facts: Facts, recipe: Recipe) -> list[FunnelRow]:
    if facts.captions is None:
        return []
    total = facts.captions
    rows = [FunnelRow("Captions read", _sources(recipe), total, 0, total)]
    if facts.funnel is None:
        return rows
    rows += step_rows(facts.funnel, recipe)
    kept = facts.funnel.kept
    if recipe.target is None or facts.candidates is None:
        rows.append(FunnelRow("Captions kept", "become prompts", kept, 0, total))
        return rows
    taken, detail = facts.candidates.captions, f"for {recipe.target.pairs:,} pairs"
    rows.append(FunnelRow("Captions kept", "of which prompts are taken", kept, 0, total))
    rows.append(FunnelRow("Captions taken", detail, taken, kept - taken, total))
    return rows


def step_rows(funnel: Funnel, recipe: Recipe) -> list[FunnelRow]:
    """A row for each step of curation, in order."""
    return [
        FunnelRow(
            rule_label(step.reason),
            _bounds(recipe, step.reason),
            step.remaining,
            step.removed,
            funnel.captions,
            step.samples,
            step.reason not in REASONS,
        )
        for step in funnel.steps
    ]


def _image_rows(facts: Facts, recipe: Recipe) -> list[FunnelRow]:
    candidates = facts.candidates
    if candidates is None:
        return []
    images = candidates.images
    detail = f"{candidates.per_caption} for each caption"
    rows = [
        FunnelRow(
            "Candidates generated",
            detail,
            images,
            candidates.total - images,
            candidates.total,
            unit="images",
        )
    ]
    captions = facts.captions if facts.captions else candidates.captions
    pairs = facts.pairs or 0
    without = candidates.captions - pairs
    rows.append(FunnelRow("Pairs", "the best candidate of a caption", pairs, without, captions))
    if facts.selected is not None:
        left_out = pairs - facts.selected
        rows.append(FunnelRow("Selected", _selection(recipe), facts.selected, left_out, captions))
    return rows


def _selection(recipe: Recipe) -> str:
    settings = recipe.selection
    parts = ["all pairs"]
    by = "by score" if settings.method == "top" else f"by {settings.method}"
    if recipe.most_selected is not None:
        parts = [f"the best {recipe.most_selected:,} {by}"]
    elif settings.top_fraction is not None:
        parts = [f"the best {settings.top_fraction * 100:.6g}% of the pairs {by}"]
    elif settings.method != "top":
        parts = [f"all pairs {by}"]
    if settings.image_overlap is not None:
        parts.append("no near copies of reference images")
    if settings.near_duplicate_images is not None:
        parts.append("no near-duplicate images")
    for name, lowest in settings.min_scores.items():
        parts.append(f"{_score_labels(recipe)[name]} at least {lowest:.6g}")
    return ", ".join(parts)


def _sources(recipe: Recipe) -> str:
    count = len(recipe.sources)
    return f"from {count} source{'s' if count > 1 else ''}"


def _bounds(recipe: Recipe, reason: str) -> str:
    rule: Any = recipe.curation.rules.get(reason)
    if rule is None:
        return REASONS.get(reason, "switched off since")
    ngram = f"{rule.ngram}-grams, " if hasattr(rule, "ngram") else ""
    return f"{ngram}{bounds_in_words(rule.bounds)}"


def _histogram(score: ScoreFacts, labels: Mapping[str, str]) -> Markup:
    return histogram(score.everything, score.selected, label=labels[score.name], cut=score.cut)


def rule_label(name: str) -> str:
    """Label of a step of curation; the name of a rule whose plug-in is not loaded."""
    if name in _STEP_LABELS:
        return _STEP_LABELS[name]
    return RULES.label(name) if name in RULES else name


def _score_labels(recipe: Recipe) -> dict[str, str]:
    """Label of each score, by its column."""
    scorers = recipe.scorers.items()
    labels = {score_column(name): scorer_label(name, scorer) for name, scorer in scorers}
    return {**labels, "score": "Weighted score"}


def _best_of(facts: Facts) -> Markup | None:
    values = facts.candidates.best_of if facts.candidates is not None else []
    if len(values) < 2:
        return None
    return rising_line(values, label="Mean weighted score of the best of the first k candidates")


def _published(recipe: Recipe, facts: Facts) -> dict[str, Any] | None:
    """The published means, and those of this run; None if it lacks one of the two scorers.

    Args:
        recipe: As it is published: the page names its settings.
        facts: From ``collect``.
    """
    clip, ssim = recipe.scorers.get("clip"), recipe.scorers.get("ssim")
    means = {score.name: score for score in facts.scores}
    if not isinstance(clip, ClipSettings) or not isinstance(ssim, SsimSettings) or not means:
        return None
    first, second = means["clip_score"], means["ssim_score"]
    rows = [("This run, all pairs", first.everything.mean(), second.everything.mean())]
    if first.selected is not None and second.selected is not None:
        rows.append(("This run, selected", first.selected.mean(), second.selected.mean()))
    return {
        "published": PUBLISHED,
        "own": rows,
        "differences": list(differences(clip, ssim)),
    }


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "0.0%"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _rate(value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _clip_text(text: str, limit: int = _TEXT_LIMIT) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]} … ({len(text) - limit:,} more characters)"


def _clip_name(text: str) -> str:
    return _clip_text(text, _NAME_LIMIT)


def _quantile(values: Any, share: float) -> float:
    import numpy as np

    return float(np.quantile(values, share))
