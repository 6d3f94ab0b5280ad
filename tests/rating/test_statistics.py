"""Statistics of ratings: equal to scipy's, and to published examples."""

from __future__ import annotations

import pytest
import scipy.stats

from synthvlm.rating.statistics import krippendorff_alpha, sign_test


def units_of(*rows: str) -> list[dict[str, str]]:
    """A row for each rater, a column for each unit; a dot or star is no rating."""
    columns = zip(*map(str.split, rows), strict=True)
    return [{f"r{n}": v for n, v in enumerate(column) if v not in ".*"} for column in columns]


@pytest.mark.parametrize(("wins", "losses"), [(60, 40), (7, 0), (3, 3), (758, 242), (12, 20)])
def test_the_sign_test_is_scipys_binomial_test(wins: int, losses: int) -> None:
    expected = scipy.stats.binomtest(wins, wins + losses).pvalue
    assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-9)


def test_the_sign_test_by_hand() -> None:
    assert sign_test(5, 0) == pytest.approx(2 / 2**5)
    assert sign_test(4, 1) == pytest.approx(2 * (1 + 5) / 2**5)
    assert sign_test(0, 0) == 1.0


def test_alpha_of_krippendorffs_own_example() -> None:
    # Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C: 0.743.
    alpha = krippendorff_alpha(
        units_of(
            "1 2 3 3 2 1 4 1 2 . . .",
            "1 2 3 3 2 2 4 1 2 5 . 3",
            ". 3 3 3 2 3 4 2 2 5 1 .",
            "1 2 3 3 2 4 4 1 2 5 1 .",
        )
    )
    assert alpha is not None
    assert alpha.value == pytest.approx(0.743, abs=5e-4)
    assert alpha.low is not None
    assert alpha.high is not None
    assert alpha.low < 0.6 < 0.9 < alpha.high <= 1


def test_alpha_of_the_example_of_wikipedia() -> None:
    alpha = krippendorff_alpha(
        units_of(
            "* * * * * 3 4 1 2 1 1 3 3 * 3",
            "1 * 2 1 3 3 4 3 * * * * * * *",
            "* * 2 1 3 4 4 * 2 1 1 3 3 * 4",
        )
    )
    assert alpha is not None
    assert alpha.value == pytest.approx(0.691, abs=5e-4)


def test_alpha_by_hand() -> None:
    # Units aa, ab, bb: 1 of 3 units disagrees, so that 2 of 6 values do; of all pairs of values
    # 3 * 3 * 2 of 6 * 5 differ: 1 - (2 / 6) / (18 / 30).
    alpha = krippendorff_alpha(units_of("a a b", "a b b"))
    assert alpha is not None
    assert alpha.value == pytest.approx(1 - (2 / 6) / (18 / 30))


def test_alpha_is_not_defined_without_two_ratings_or_two_values() -> None:
    assert krippendorff_alpha([]) is None
    assert krippendorff_alpha(units_of("a b .", ". . a")) is None
    assert krippendorff_alpha(units_of("a a a", "a a a")) is None
