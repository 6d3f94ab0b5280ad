"""The drawings: what their numbers say, and that odd numbers do not break them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from synthvlm.report.charts import histogram, rising_line, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.31, 0.39, [0.32, 0.34, 0.36, 0.38]),
        (-1.0, 1.0, [-1.0, -0.5, 0.0, 0.5, 1.0]),
        (0.5, 0.5, [0.5]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_bars_count_every_value() -> None:
    values = np.random.default_rng(0).normal(0.3, 0.05, 500)
    svg = histogram(values, np.sort(values)[-50:], label="CLIPScore", cut=0.35)
    counts = {
        name: sum(int(n) for n in re.findall(rf": (\d+) {name} ", svg))
        for name in ("all pairs", "selected")
    }
    assert counts == {"all pairs": 500, "selected": 50}
    assert 'class="cut"' in svg


@pytest.mark.parametrize("values", [[0.3], [0.3, 0.3], [0.0, 1.0], [-1.0, 1.0]])
def test_few_or_equal_values(values: list[float]) -> None:
    svg = histogram(np.array(values), np.array(values[-1:]), label="SSIMScore")
    assert "nan" not in svg
    assert svg.count("<title>") >= 4


def test_line_through_equal_values() -> None:
    svg = rising_line([0.5, 0.5], label="Score")
    assert "nan" not in svg
    assert svg.count('class="dot"') == 2


def test_labels_are_escaped() -> None:
    svg = histogram(np.array([0.1, 0.2]), None, label='"><script>')
    assert "<script>" not in svg
