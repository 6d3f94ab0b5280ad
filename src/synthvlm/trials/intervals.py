"""Estimates with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Estimate", "combine", "mean_of", "share_of"]

_LEVEL = 0.95
#: Two-sided 95 % quantile of the normal distribution.
_Z = 1.959963984540054


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


def share_of(successes: int, trials: int, population: int) -> Estimate:
    """Share (0 .. 1) of a population from a sample of it: Wilson's score interval.

    Args:
        successes: In the sample.
        trials: Size of the sample, at least 1.
        population: Where the sample is all of it, the share is exact.
    """
    share = successes / trials
    if trials >= population:
        return Estimate.exact(share)
    square = _Z * _Z
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    spread = share * (1 - share) / trials + square / (4 * trials * trials)
    half = _Z * math.sqrt(spread) / (1 + square / trials)
    # At 0 and at 1 the formula meets the end, but for rounding.
    return Estimate(share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))


def mean_of(values: Sequence[float]) -> Estimate:
    """Mean with Student's t interval; without an interval where there is a single value.

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
