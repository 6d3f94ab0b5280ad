"""The statistics of ratings that are found nowhere else in the package: sign test and agreement."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from synthvlm.estimates import Estimate

__all__ = ["krippendorff_alpha", "sign_test"]

#: Resamples of the bootstrap of alpha, and its seed.
_RESAMPLES, _SEED = 10_000, 0
#: Numbers that it holds at a time.
_HELD = 4_000_000


def sign_test(wins: int, losses: int) -> float:
    """The p value of the exact two-sided binomial test of wins against one half.

    That is what ``scipy.stats.binomtest(wins, wins + losses)`` gives; 1 where there are none.
    """
    # Not by scipy.stats, whose import takes nearly three times as long.
    from scipy.special import bdtr

    total = wins + losses
    return min(1.0, 2 * float(bdtr(min(wins, losses), total, 0.5))) if total else 1.0


def krippendorff_alpha(units: Sequence[Mapping[str, Hashable]]) -> Estimate | None:
    """Krippendorff's alpha of nominal ratings, with its 95 % percentile bootstrap interval.

    1 is full agreement, 0 what chance would give, below 0 raters disagree. A rater need not have
    rated every unit; units with one rating tell nothing. As in Krippendorff, "Computing
    Krippendorff's Alpha-Reliability" (2011), section C; the bootstrap draws units with replacement.

    Args:
        units: For each unit (a pair of pictures), what each rater said of it.

    Returns:
        None where no unit has two ratings, or all ratings are the same: agreement by chance is then
        certain, and alpha is not defined.
    """
    counts = _counts(units)
    sizes = counts.sum(axis=1)
    counts, sizes = counts[sizes > 1], sizes[sizes > 1]
    if not len(counts):
        return None
    disagreements = (sizes**2 - (counts**2).sum(axis=1)) / (sizes - 1)
    value = float(_alpha(np.ones((1, len(counts))), counts, disagreements)[0])
    if math.isnan(value):
        return None
    random, total = np.random.default_rng(_SEED), len(counts)
    at_once = max(1, _HELD // total)
    resampled = np.concatenate(
        [
            _alpha(
                random.multinomial(
                    total, np.full(total, 1 / total), min(at_once, _RESAMPLES - start)
                ).astype(float),
                counts,
                disagreements,
            )
            for start in range(0, _RESAMPLES, at_once)
        ]
    )
    resampled = resampled[~np.isnan(resampled)]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def _counts(units: Sequence[Mapping[str, Hashable]]) -> npt.NDArray[np.float64]:
    """How often each value was given, shape (units, values)."""
    places: dict[Hashable, int] = {}
    for unit in units:
        for value in unit.values():
            places.setdefault(value, len(places))
    counts = np.zeros((len(units), len(places)))
    for row, unit in enumerate(units):
        for value in unit.values():
            counts[row, places[value]] += 1
    return counts


def _alpha(
    weights: npt.NDArray[np.float64],
    counts: npt.NDArray[np.float64],
    disagreements: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Alpha by how often each unit counts, shape (n, units); NaN where it is not defined."""
    totals = weights @ counts
    ratings = totals.sum(axis=1)
    expected = ratings**2 - (totals**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        alpha: npt.NDArray[np.float64] = 1 - (ratings - 1) * (weights @ disagreements) / expected
    alpha[expected == 0] = math.nan
    return alpha
