"""Intervals against scipy's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from synthvlm.trials.intervals import Estimate, combine, mean_of, share_of


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_share_has_wilsons_interval(case: tuple[int, int]) -> None:
    successes, trials = case
    expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    found = share_of(successes, trials, trials + 1)
    assert found.value == successes / trials
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)


def test_a_share_of_everything_is_exact() -> None:
    assert share_of(3, 4, 4) == Estimate.exact(0.75)
    assert not share_of(3, 4, 5).is_exact


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_a_mean_has_students_interval(values: list[float]) -> None:
    found = mean_of(values)
    error = stats.sem(values)
    low, high = stats.t.interval(0.95, len(values) - 1) if error else (0.0, 0.0)
    assert found.low == pytest.approx(found.value + low * error, abs=1e-6)
    assert found.high == pytest.approx(found.value + high * error, abs=1e-6)


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    assert mean_of([2.0]) == Estimate(2.0, None, None)
    with pytest.raises(ValueError, match="no values"):
        mean_of([])


def test_ends_go_with_ends() -> None:
    product = combine(lambda a, b: a * b, Estimate(2, 1, 3), Estimate(10, -1, 20))
    assert product == Estimate(20, 0, 60)
    assert combine(lambda a, b: a * b, Estimate(2, 1, 3), Estimate(5, None, None)) == Estimate(
        10, None, None
    )
