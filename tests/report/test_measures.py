"""Distributions of the rules' measures, and the captions on both sides of a bound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_folder import Builder, caption

from synthvlm.report.charts import measure_histogram
from synthvlm.report.curation import Distribution, read_distributions


@pytest.fixture
def curated(tmp_path: Path) -> Builder:
    builder = Builder(tmp_path / "run", ("curation.rules.alnum_ratio={min: 0.6}",))
    values = [0.1, 0.5, 0.55, 0.58, 0.59, 0.61, 0.7, 0.8, 0.9, 1.0]
    rows = [
        caption(f"{n}", f"text <b>{value}</b>", "alnum_ratio" if value < 0.6 else None,
                alnum_ratio=value)
        for n, value in enumerate(values)
    ]  # fmt: skip
    rows.append(caption("x", "unread", "unreadable", alnum_ratio=None))
    builder.curated(0, rows[::2])
    builder.curated(1, rows[1::2])
    return builder


def test_all_values_are_counted_and_the_nearest_shown(curated: Builder) -> None:
    found = read_distributions(curated.run, curated.recipe, curated.run.markers("curate"))
    rule = next(item for item in found if item.name == "alnum_ratio")
    assert rule.measured == 10
    assert rule.edges[0] == 0.1
    assert rule.edges[-1] == 1.0
    assert [(b.measure, b.rejected) for b in rule.borderline] == [
        (0.59, True), (0.58, True), (0.55, True), (0.5, True),
        (0.61, False), (0.7, False), (0.8, False), (0.9, False),
    ]  # fmt: skip


def test_a_rule_that_measured_nothing_has_no_distribution(curated: Builder) -> None:
    found = read_distributions(curated.run, curated.recipe, curated.run.markers("curate"))
    assert "judge" not in {rule.name for rule in found}
    assert read_distributions(curated.run, curated.recipe, {}) == ()


def test_the_page_shows_them_as_text(curated: Builder) -> None:
    page = curated.page()
    section = page.section("rules")
    assert "text <b>0.59</b> 0.59, rejected" in section
    assert "text <b>0.61</b> 0.61, kept" in section
    assert "<b>0.59" not in page.html


def distribution(**changes: Any) -> Distribution:
    counts, edges = np.full(10, 5), np.linspace(0.0, 1.0, 11)
    whole = Distribution("x", counts, edges, (0.3, 0.75), (), 0.0, 1.0, 0, 0)
    return replace(whole, **changes)


def test_bars_outside_the_bounds_are_pale() -> None:
    svg = measure_histogram(distribution(), label="x")
    assert svg.count('class="bar out"') == 2 + 2
    assert svg.count('class="bar sel"') == 6
    assert svg.count('class="cut"') == 2
    assert "at least 0.3, at most 0.75" in svg


def test_a_bound_beyond_the_axis_is_not_drawn_on_its_edge() -> None:
    svg = measure_histogram(distribution(bounds=(0.3, 90.0)), label="x")
    assert svg.count('class="cut"') == 1
    assert "at most 90" in svg


def test_an_axis_of_equal_values_does_not_begin_below_them(tmp_path: Path) -> None:
    builder = Builder(tmp_path / "run", ("curation.rules.alnum_ratio={max: 0}",))
    builder.curated(0, [caption(id, alnum_ratio=0.0) for id in "ab"])
    found = read_distributions(builder.run, builder.recipe, builder.run.markers("curate"))
    rule = next(item for item in found if item.name == "alnum_ratio")
    assert (rule.edges[0], rule.edges[-1], rule.counts[0]) == (0, 1, 2)


def test_one_value_far_away_does_not_squeeze_all_others(tmp_path: Path) -> None:
    builder = Builder(tmp_path / "run", ("curation.rules.alnum_ratio={min: 0.2, max: 500}",))
    values = [n / 1000 for n in range(1, 1000)] + [1e6]
    builder.curated(0, [caption(f"{n}", alnum_ratio=v) for n, v in enumerate(values)])
    found = read_distributions(builder.run, builder.recipe, builder.run.markers("curate"))
    rule = next(item for item in found if item.name == "alnum_ratio")
    assert 0.98 < rule.edges[-1] < 1
    assert (rule.measured, rule.above, rule.highest, rule.below) == (1000, 5, 1e6, 5)
    assert f"to 1e+06: {rule.counts[-1]} captions" in measure_histogram(rule, label="x")
    section = builder.page().section("rules")
    assert "5 of 1,000 lie beyond the right edge, up to 1e+06; the last bar holds them" in section
