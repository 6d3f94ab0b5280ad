"""Intervals against scipy's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from synthvlm.estimates import (
    Estimate,
    combine,
    inverse,
    mean_interval,
    paired_difference,
    quantity,
    range_of,
    ratio_interval,
    share_interval,
    share_of,
)


@given(
    st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.sampled_from([0.8, 0.95, 0.99]),
)
def test_a_share_has_wilsons_interval(case: tuple[int, int], level: float) -> None:
    successes, trials = case
    expected = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synthvlm.estimates._LEVEL", level)
        found = share_interval(successes, trials)
    assert found.value == successes / trials
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)


def test_a_share_of_everything_is_exact() -> None:
    assert share_of(3, 4, 4) == Estimate.exact(0.75)
    assert share_of(3, 4, 5) == share_interval(3, 4)
    assert not share_of(3, 4, 5).is_exact
    with pytest.raises(ValueError, match="no trials"):
        share_interval(0, 0)


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    # By hand, with z = 1.96: (p + z²/2n ± z √(p q / n + z²/4n²)) / (1 + z²/n); at an end, where
    # p q is 0, n / (n + 3.8416).
    [(3, 3, 0.4385, 1.0), (0, 1, 0.0, 0.7935), (10, 10, 0.7225, 1.0), (1, 1, 0.2065, 1.0)],
)
def test_all_right_and_a_single_trial_have_an_interval(
    successes: int, total: int, low: float, high: float
) -> None:
    found = share_interval(successes, total)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.sampled_from([0.8, 0.95]))
def test_a_mean_has_students_interval(values: list[float], level: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synthvlm.estimates._LEVEL", level)
        found = mean_interval(values)
    error = stats.sem(values)
    low, high = stats.t.interval(level, len(values) - 1) if error else (0.0, 0.0)
    assert found.low == pytest.approx(found.value + low * error, abs=1e-6)
    assert found.high == pytest.approx(found.value + high * error, abs=1e-6)


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    assert mean_interval([2.0]) == Estimate(2.0, None, None)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_a_paired_difference_has_the_bootstrap_interval_of_scipy() -> None:
    random = np.random.default_rng(5)
    theirs = random.integers(0, 2, 150).astype(float)
    ours = np.where(random.random(150) < 0.2, 1.0, theirs)
    found = paired_difference(ours.tolist(), theirs.tolist())
    expected = stats.bootstrap(
        (ours - theirs,), np.mean, method="percentile", n_resamples=10_000, rng=random
    ).confidence_interval
    assert found.value == pytest.approx((ours - theirs).mean())
    # Two bootstraps with seeds of their own: one pair of 150 is a step of 0.0067.
    assert found.low == pytest.approx(expected.low, abs=0.0067)
    assert found.high == pytest.approx(expected.high, abs=0.0067)


def test_a_bootstrap_of_distinct_values_is_as_wide_as_students_interval() -> None:
    values = np.random.default_rng(2).normal(3, 1, 900)
    found, student = paired_difference(values.tolist(), [0.0] * 900), mean_interval(values.tolist())
    assert found.low == pytest.approx(student.low, abs=0.006)
    assert found.high == pytest.approx(student.high, abs=0.006)


def test_pairing_takes_away_what_both_share() -> None:
    hard = np.random.default_rng(0).normal(0, 10, 60)
    noise = np.random.default_rng(1).normal(0, 0.1, 60)
    found = paired_difference((hard + 0.5 + noise).tolist(), hard.tolist())
    assert found.low is not None
    assert 0.4 < found.low < found.value < 0.6


def test_the_same_pairs_have_the_same_interval_and_what_cannot_be_paired_is_refused() -> None:
    ours, theirs = [1.0, 0.0, 1.0, 1.0, 0.5], [0.0, 0.0, 1.0, 0.3, 0.7]
    assert paired_difference(ours, theirs) == paired_difference(ours, theirs)
    assert paired_difference(ours, ours) == Estimate.exact(0.0)
    assert paired_difference([1.0], [0.5]) == Estimate(0.5, None, None)
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_difference(ours, theirs[:4])
    with pytest.raises(ValueError, match="no values"):
        paired_difference([], [])


def test_ends_go_with_ends() -> None:
    product = combine(lambda a, b: a * b, Estimate(2, 1, 3), Estimate(10, -1, 20))
    assert product == Estimate(20, 0, 60)
    assert combine(lambda a, b: a * b, Estimate(2, 1, 3), Estimate(5, None, None)) == Estimate(
        10, None, None
    )


def test_one_over_a_share_has_its_ends_in_turn() -> None:
    assert inverse(Estimate(0.5, 0.25, 0.8)) == Estimate(2.0, 1.25, 4.0)
    for unknown in (Estimate(0.5, 0.0, 0.8), Estimate(0.5, None, None)):
        assert inverse(unknown) == Estimate(2.0, None, None)


def test_a_ratio_has_an_interval_about_as_wide_as_the_delta_method_says() -> None:
    random = np.random.default_rng(0)
    wholes = random.uniform(1, 3, 400)
    parts = wholes * 0.5 + random.normal(0, 0.2, 400)
    found, ratio = ratio_interval(parts, wholes), parts.sum() / wholes.sum()
    half = 1.96 * np.std(parts - ratio * wholes) / np.sqrt(400) / wholes.mean()
    assert found.value == pytest.approx(ratio)
    assert found.low == pytest.approx(ratio - half, abs=half / 10)
    assert found.high == pytest.approx(ratio + half, abs=half / 10)
    assert ratio_interval([1.0], [2.0]) == Estimate(0.5, None, None)
    assert ratio_interval([0.0, 0.0], [0.0, 0.0]) == Estimate(1.0, None, None)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.0, "h", "1 h"),
        (0.5, "h", "30 min"),
        (1 / 60, "h", "1 min"),
        (30 / 3600, "h", "30 s"),
        (0.5 / 3600, "h", "0.5 s"),
        (1234.5, "captions", "1,234"),
        (123.4, "images/s", "123 images/s"),
        (1.2345, "", "1.23"),
    ],
)
def test_a_number_is_in_a_unit_that_suits_it(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_an_interval_is_written_as_what_is_known_of_it() -> None:
    assert range_of(Estimate.exact(3.0), "s") == "exact"
    assert range_of(Estimate(2.0, -1.0, 3.0), "s") == "0 s to 3 s"
    for low, high in ((None, None), (None, 3.0), (1.0, None)):
        assert range_of(Estimate(2.0, low, high), "s") == "not known"
