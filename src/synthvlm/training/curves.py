"""A value over steps as inline SVG, and as a line of text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup, escape

from synthvlm.report.charts import ticks

__all__ = ["curve", "sparkline"]

_WIDTH, _HEIGHT = 720, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 26
_MOST_POINTS = 600
_BLOCKS = "▁▂▃▄▅▆▇█"


def curve(points: Sequence[tuple[int, float]], *, label: str) -> Markup:
    """A line through values at steps; of many, means of neighbours are drawn.

    Args:
        points: Step and finite value, by rising step; not empty.
        label: Name of the value.
    """
    drawn = _thinned(points)
    first, last = drawn[0][0], max(drawn[-1][0], drawn[0][0] + 1)
    low, high = min(y for _, y in drawn), max(y for _, y in drawn)
    if high <= low:
        low, high = low - (abs(low) or 1.0) * 0.5, high + (abs(high) or 1.0) * 0.5

    def x(step: float) -> float:
        return _LEFT + (step - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = []
    for value in ticks(low, high):
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}"/><text class="tick y" x="{_LEFT - 6}" y="{y(value) + 4:.1f}">'
            f"{value:g}</text>"
        )
    for step in ticks(first, last):
        parts.append(f'<text class="tick x" x="{x(step):.1f}" y="{_HEIGHT - 8}">{step:g}</text>')
    path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in drawn)
    parts.append(f'<polyline class="line" points="{path}"/>')
    ends = [f"{value:.4g} at step {step}" for step, value in (points[0], points[-1])]
    told = f"{label}: {', '.join(ends)}"
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(told)}">'
        f"<title>{escape(told)}</title>{''.join(parts)}</svg>"
    )


def sparkline(values: Sequence[float], width: int = 32) -> str:
    """Values as a row of blocks, at most ``width``; each is the mean of its neighbours."""
    means = [y for _, y in _thinned(list(enumerate(values)), width)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    if high <= low:
        return _BLOCKS[0] * len(means)
    return "".join(_BLOCKS[round((v - low) / (high - low) * (len(_BLOCKS) - 1))] for v in means)


def _thinned(
    points: Sequence[tuple[int, float]], most: int = _MOST_POINTS
) -> list[tuple[float, float]]:
    groups = min(len(points), most)
    edges = [n * len(points) // groups for n in range(groups + 1)] if groups else []
    found = []
    for begin, end in pairwise(edges):
        part = points[begin:end]
        found.append((sum(p[0] for p in part) / len(part), sum(p[1] for p in part) / len(part)))
    return found
