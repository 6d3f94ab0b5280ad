"""The comparison of data sets as one self-contained page."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from synthvlm.comparison.data_set_comparison import SSIM_SIDES, SSIM_WEIGHT
from synthvlm.comparison.data_set_tables import SHOWN_BAD, bad_lines, property_rows, score_rows
from synthvlm.comparison.map_chart import COLOURS, map_chart
from synthvlm.report.gallery import picture

if TYPE_CHECKING:
    import jinja2

    from synthvlm.comparison.data_set_comparison import DataSetComparison

__all__ = ["render"]

#: Characters of a caption and of a name that the page holds at most.
_TEXT_LIMIT, _NAME_LIMIT = 1000, 80


def render(comparison: DataSetComparison) -> str:
    """The page as HTML; it loads nothing and runs nothing."""
    facts = comparison.data_sets
    labels = [one.label for one in facts]
    maps = [
        (title, found.perplexity, map_chart(found, labels, what=title.lower()))
        for title, found in (
            ("Image embeddings", comparison.image_map),
            ("Caption embeddings", comparison.text_map),
        )
        if found is not None
    ]
    return (
        _environment()
        .get_template("comparison.html.jinja")
        .render(
            comparison=comparison,
            facts=facts,
            scores=score_rows(facts),
            properties=property_rows(facts),
            maps=maps,
            bad=[(one, bad_lines(one)) for one in facts if one.bad],
            shown_bad=SHOWN_BAD,
            galleries=[
                (one, [(pair, picture(pair.image)) for pair in one.images.scored.shown])
                for one in facts
            ],
            sides=SSIM_SIDES,
            weight=SSIM_WEIGHT,
            colours=COLOURS,
        )
    )


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            # The report's style sheet is this page's, too.
            [jinja2.PackageLoader("synthvlm.comparison"), jinja2.PackageLoader("synthvlm.report")]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda value: f"{value:,}"
    environment.filters["name"] = lambda text: _cut(text, _NAME_LIMIT)
    environment.filters["text"] = lambda text: _cut(text, _TEXT_LIMIT)
    return environment


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]} …"
