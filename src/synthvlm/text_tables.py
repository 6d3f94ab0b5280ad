"""Numbers and tables as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from synthvlm.intervals import Estimate

__all__ = ["aligned", "quantity", "range_of"]

_BYTES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))
_HOURS = (("h", 1.0), ("min", 1 / 60), ("s", 1 / 3600))


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
