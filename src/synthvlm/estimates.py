"""Estimates with intervals (of means, shares, paired differences), and how they are written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "Estimate",
    "aligned",
    "combine",
    "inverse",
    "mean_interval",
    "paired_difference",
    "quantity",
    "range_of",
    "ratio_interval",
    "share_interval",
    "share_of",
]

#: Of all intervals.
_LEVEL = 0.95
#: Resamples of a bootstrap; their own error of an interval's end is then about 1 % of its width.
_RESAMPLES = 10_000
#: Of the resampling.
_SEED = 0
#: Numbers that a bootstrap holds at a time.
_HELD = 4_000_000
_BYTES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))
_HOURS = (("h", 1.0), ("min", 1 / 60), ("s", 1 / 3600))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and the interval that it is thought to lie in.

    Attributes:
        value: The estimate.
        low: Lower end; None where no interval can be told.
        high: Upper end, likewise.
    """

    value: float
    low: float | None
    high: float | None

    @classmethod
    def exact(cls, value: float) -> Estimate:
        """A number that is known."""
        return cls(value, value, value)

    @property
    def is_exact(self) -> bool:
        """Whether the interval is a point."""
        return self.low == self.value == self.high


def share_interval(successes: float, total: int) -> Estimate:
    """Share (0 .. 1) with Wilson's 95 % score interval (Wilson, JASA 1927).

    Args:
        successes: 0 .. total. A trial may count in part, a tie as a half say: no distribution on
            0 .. 1 varies more than yes and no do at the same mean, so the interval is then rather
            too wide.
        total: Trials, at least 1.

    Raises:
        ValueError: There are no trials.
    """
    if total < 1:
        raise ValueError("no trials")
    z = NormalDist().inv_cdf((1 + _LEVEL) / 2)
    share = successes / total
    square = z * z
    middle = (share + square / (2 * total)) / (1 + square / total)
    spread = share * (1 - share) / total + square / (4 * total * total)
    half = z * math.sqrt(spread) / (1 + square / total)
    # At 0 and at 1 the formula meets the end, but for rounding.
    return Estimate(share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))


def share_of(successes: int, trials: int, population: int) -> Estimate:
    """Share (0 .. 1) of a population from a sample of it, with its 95 % interval.

    Args:
        successes: In the sample.
        trials: Size of the sample, at least 1.
        population: Where the sample is all of it, the share is exact.
    """
    if trials >= population:
        return Estimate.exact(successes / trials)
    return share_interval(successes, trials)


def mean_interval(values: Sequence[float]) -> Estimate:
    """Mean with Student's 95 % t interval; without an interval where there is a single value.

    The right one for a result over a few seeds, too.

    Args:
        values: At least one.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("no values")
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(mean, None, None)
    from scipy.special import stdtrit

    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = float(stdtrit(count - 1, (1 + _LEVEL) / 2)) * math.sqrt(variance / count)
    return Estimate(mean, mean - half, mean + half)


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """Mean of ``ours - theirs``, with the 95 % percentile bootstrap interval over the pairs.

    As in Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13: pairs are
    drawn with replacement 10,000 times. With right or wrong answers (1 or 0) it tests what
    McNemar's test does. The interval is a point where all differences are the same: a few pairs
    tell nothing of how they would differ. A single pair has none.

    Args:
        ours: A value per item, such as the score of a question.
        theirs: Of the same items, in the same order.

    Raises:
        ValueError: There are no pairs, or one list is longer.
    """
    import numpy as np

    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} values cannot be paired with {len(theirs)}")
    if not ours:
        raise ValueError("no values")
    differences = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
    if len(differences) == 1:
        return Estimate(float(differences[0]), None, None)
    # How often each distinct value is drawn is multinomial: far cheaper than drawing the items.
    distinct, counts = np.unique(differences, return_counts=True)
    total, random = len(differences), np.random.default_rng(_SEED)
    at_once = max(1, _HELD // len(distinct))
    means = np.concatenate(
        [
            random.multinomial(total, counts / total, min(at_once, _RESAMPLES - start)) @ distinct
            for start in range(0, _RESAMPLES, at_once)
        ]
    )
    low, high = np.quantile(means / total, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Estimate(float(differences.mean()), float(low), float(high))


def ratio_interval(parts: npt.ArrayLike, wholes: npt.ArrayLike) -> Estimate:
    """Sum of the parts over the sum of the wholes, with the 95 % percentile bootstrap interval.

    Args:
        parts: A value per item.
        wholes: Of the same items, 0 or more each.

    Returns:
        The ratio, without an interval where there are fewer than two items; 1 where the wholes
        are all 0.
    """
    import numpy as np

    table = np.stack([np.asarray(parts, float), np.asarray(wholes, float)], axis=1)
    if not table[:, 1].any():
        return Estimate(1.0, None, None)
    value = float(table[:, 0].sum() / table[:, 1].sum())
    total, random = len(table), np.random.default_rng(_SEED)
    if total < 2:
        return Estimate(value, None, None)
    at_once = max(1, _HELD // total)
    sums = np.concatenate(
        [
            random.multinomial(total, np.full(total, 1 / total), min(at_once, _RESAMPLES - start))
            @ table
            for start in range(0, _RESAMPLES, at_once)
        ]
    )
    sums = sums[sums[:, 1] > 0]
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Estimate(value, float(low), float(high))


def combine(function: Callable[..., float], *parts: Estimate) -> Estimate:
    """A function that rises with each of its arguments, of estimates that are 0 or more.

    The ends go with the ends, so the interval is wider than 95 %. Lower ends below 0 count as 0.
    """
    lows = [part.low for part in parts]
    highs = [part.high for part in parts]
    value = function(*(part.value for part in parts))
    if None in lows or None in highs:
        return Estimate(value, None, None)
    low = function(*(max(0.0, low) for low in lows if low is not None))
    return Estimate(value, low, function(*highs))


def inverse(share: Estimate) -> Estimate:
    """One over an estimate above 0; without an interval where its lower end is 0."""
    if share.low is None or share.high is None or share.low <= 0:
        return Estimate(1 / share.value, None, None)
    return Estimate(1 / share.value, 1 / share.high, 1 / share.low)


def quantity(value: float, unit: str) -> str:
    """A number with three significant digits, in a unit that suits it.

    Args:
        value: The number.
        unit: ``captions`` and ``images`` are whole numbers; ``h`` and ``B`` are scaled.
    """
    if unit in ("captions", "images"):
        return f"{value:,.0f}"
    scales = {"h": _HOURS, "B": _BYTES}.get(unit, ((unit, 1.0),))
    name, scale = next((one for one in scales if value >= one[1]), scales[-1])
    return f"{_digits(value / scale)} {name}".rstrip()


def range_of(estimate: Estimate, unit: str) -> str:
    """The interval of an estimate: ``exact``, ``not known``, or its ends."""
    if estimate.is_exact:
        return "exact"
    if estimate.low is None or estimate.high is None:
        return "not known"
    return f"{quantity(max(0.0, estimate.low), unit)} to {quantity(estimate.high, unit)}"


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Rows of cells as lines: the first ``left`` columns to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:<{width}}" if place < left else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
