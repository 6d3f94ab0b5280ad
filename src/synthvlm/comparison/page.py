"""Data sets side by side: as tables for terminal and page, and as one self-contained page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from synthvlm.comparison.data_set_comparison import DataSetFacts, spread
from synthvlm.comparison.embedding_map import COLOURS, map_chart
from synthvlm.comparison.settings import model_label, scorer_models, weighted_sum
from synthvlm.estimates import aligned
from synthvlm.report.gallery import picture
from synthvlm.report.pages import page_environment
from synthvlm.report.published import PUBLISHED
from synthvlm.scorers import SCORERS, scorer_label

if TYPE_CHECKING:
    import jinja2
    import numpy as np
    import numpy.typing as npt

    from synthvlm.comparison.data_set_comparison import DataSetComparison
    from synthvlm.estimates import Estimate

__all__ = [
    "SHOWN_BAD",
    "ScoreTable",
    "bad_lines",
    "property_rows",
    "render",
    "score_table",
    "text_of",
    "with_margin",
]

#: Bad records of each data set that are named; all are in the file.
SHOWN_BAD = 10
#: Characters of a label, a place and a problem that a table holds.
_LABEL, _LINE = 40, 240


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """The scores of data sets, and below them the published ones.

    Attributes:
        columns: Labels: one of each scorer, the weighted score, the pairs.
        rows: A name, and a cell for each column.
        published: The same of the published data sets.
    """

    columns: list[str]
    rows: list[list[str]]
    published: list[list[str]]


def score_table(comparison: DataSetComparison) -> ScoreTable:
    """Means with half of their intervals; of published data sets the scorers that they have."""
    scorers = comparison.settings.scorers
    labels = [scorer_label(name, settings) for name, settings in scorers.items()]
    columns = [*labels, "weighted score", "pairs"]
    rows = [
        [
            one.label[:_LABEL],
            *map(with_margin, one.scores.values()),
            with_margin(one.score),
            f"{one.scored:,} of {one.captions.count:,}",
        ]
        for one in comparison.data_sets
    ]
    published = []
    for name, clip, ssim in PUBLISHED:
        means = {"clip": clip, "ssim": ssim}
        if not means.keys() & scorers.keys():
            continue
        cells = [f"{means[scorer]:.2f}" if scorer in means else "-" for scorer in scorers]
        weighted = "-"
        if scorers.keys() <= means.keys():
            weighted = f"{sum(own.weight * means[scorer] for scorer, own in scorers.items()):.2f}"
        published.append([name, *cells, weighted, "published"])
    return ScoreTable(columns, rows, published)


def property_rows(facts: Sequence[DataSetFacts]) -> list[tuple[str, list[str]]]:
    """The properties of each data set beside its scores: a name, and a cell for each."""
    columns = [list(_properties(one)) for one in facts]
    return [(row[0][0], [cell for _, cell in row]) for row in zip(*columns, strict=True)]


def _properties(one: DataSetFacts) -> Iterator[tuple[str, str]]:
    captions, images = one.captions, one.images
    yield "records", f"{one.records:,}"
    faults = Counter(bad.fault for bad in one.bad)
    counts = ", ".join(f"{count:,} {fault}" for fault, count in sorted(faults.items()))
    yield "bad ones", counts or "none"
    yield "image width", _spread(images.sizes[:, 0])
    yield "image height", _spread(images.sizes[:, 1])
    yield "caption, words", _spread(captions.words)
    if captions.tokens is not None:
        yield "caption, tokens", _spread(captions.tokens)
    yield "distinct words", f"{captions.vocabulary:,}"
    share = one.types / max(1, one.type_tokens)
    yield f"distinct of {one.type_tokens:,} words", f"{one.types:,} ({share:.1%})"
    yield "repeated captions", _part(captions.duplicates, captions.count)
    yield "nearly repeated, with these", _part(captions.near_duplicates, captions.count)
    yield "repeated image files", _part(images.same_file, len(images.sizes))
    yield "repeated pixels, scored pairs", _part(images.same_pixels, one.scored)


def bad_lines(one: DataSetFacts) -> list[str]:
    """The first bad records of a data set, a line each."""
    lines = [
        " ".join(f"{bad.where}: {bad.fault}: {bad.problem}".split()) for bad in one.bad[:SHOWN_BAD]
    ]
    return [line if len(line) <= _LINE else f"{line[:_LINE]}..." for line in lines]


def text_of(comparison: DataSetComparison, out: str | None) -> str:
    """The tables for people, what to know of them, and the first bad records.

    Args:
        comparison: The data sets.
        out: The folder that has all bad records, if there is one.
    """
    facts = comparison.data_sets
    table = score_table(comparison)
    scores = [["", *table.columns], *table.rows, *table.published]
    labels = [one.label[:_LABEL] for one in facts]
    properties = [["", *labels], *([name, *cells] for name, cells in property_rows(facts))]
    lines = [*aligned(scores), "", *aligned(properties)]
    lines += ["", *(f"- {note}" for note in [*_about(comparison), *comparison.notes])]
    for one in facts:
        if one.bad:
            lines += ["", f"{one.label}: {len(one.bad):,} bad records"]
            lines += [f"  {line}" for line in bad_lines(one)]
            left = len(one.bad) - SHOWN_BAD
            if left > 0:
                place = f"{out}/bad_records.jsonl" if out else "--out FOLDER has them all"
                lines.append(f"  and {left:,} more: {place}")
    return "\n".join(lines)


def _about(comparison: DataSetComparison) -> Iterator[str]:
    scorers = comparison.settings.scorers
    models = [f"{label}: {model}" for label, model in scorer_models(scorers)]
    used = f"{', '.join(models) or 'scored'} on {comparison.device}"
    yield (
        f"±: half of the 95 % interval of the mean; weighted score: {weighted_sum(scorers)}; {used}"
    )
    for label, about in _others(scorers):
        yield f"{label}: {about}"
    sizes = "sizes, words and tokens: median (least to most)"
    is_beside = score_table(comparison).published
    yield f"published: arXiv 2407.20756, not measured here; {sizes}" if is_beside else sizes


def _others(scorers: Iterable[str]) -> list[tuple[str, str]]:
    """Label and explanation of scorers that are not on by default, where they have one."""
    known = SCORERS.defaults()
    return [
        (SCORERS.label(name), SCORERS[name].about)
        for name in scorers
        if name not in known and SCORERS[name].about
    ]


def with_margin(mean: Estimate) -> str:
    """A mean, and half of its interval where there is one."""
    if mean.high is None:
        return f"{mean.value:.4f}"
    return f"{mean.value:.4f} ± {mean.high - mean.value:.4f}"


def _spread(values: npt.NDArray[np.int64]) -> str:
    summary = spread(values)
    return f"{summary['median']:,.0f} ({summary['min']:,.0f} to {summary['max']:,.0f})"


def _part(count: int, whole: int) -> str:
    return f"{count:,} ({count / max(1, whole):.1%})"


#: Characters of a caption and of a name that the page holds at most.
_TEXT_LIMIT, _NAME_LIMIT = 1000, 80


def render(comparison: DataSetComparison) -> str:
    """The page as HTML; it loads nothing and runs nothing."""
    facts = comparison.data_sets
    labels = [one.label for one in facts]
    maps = [
        (title, plane.perplexity, map_chart(plane, labels, what=title.lower()))
        for title, plane in (
            ("Image embeddings", comparison.image_map),
            ("Caption embeddings", comparison.text_map),
        )
        if plane is not None
    ]
    return (
        _environment()
        .get_template("comparison.html.jinja")
        .render(
            comparison=comparison,
            facts=facts,
            settings=comparison.settings,
            models=scorer_models(comparison.settings.scorers),
            others=_others(comparison.settings.scorers),
            label=SCORERS.label,
            weighted=weighted_sum(comparison.settings.scorers, times=" · "),
            scores=score_table(comparison),
            properties=property_rows(facts),
            maps=maps,
            bad=[(one, bad_lines(one)) for one in facts if one.bad],
            shown_bad=SHOWN_BAD,
            galleries=[
                (one, [(pair, picture(pair.image)) for pair in one.images.scored.examples])
                for one in facts
            ],
            embedded_by=model_label(comparison.embedded_by) if comparison.embedded_by else "",
            colours=COLOURS,
        )
    )


@cache
def _environment() -> jinja2.Environment:
    # The report's style sheet is this page's, too.
    environment = page_environment(
        ("synthvlm.comparison", "templates"), ("synthvlm.report", "templates")
    )
    environment.filters["count"] = lambda value: f"{value:,}"
    environment.filters["name"] = lambda text: _cut(text, _NAME_LIMIT)
    environment.filters["text"] = lambda text: _cut(text, _TEXT_LIMIT)
    return environment


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]} …"
