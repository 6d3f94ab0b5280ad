"""Charts as inline SVG. Colours are defined in the CSS of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from synthvlm.safe_text import for_html

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from synthvlm.report.curation import Distribution

    Floats = npt.NDArray[np.float64]

__all__ = ["histogram", "measure_histogram", "rising_line", "ticks"]

_BINS = (12, 40)
_TICKS = 5
_WIDTH, _HEIGHT = 400, 222
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 10, 26, 26


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers between two bounds, both inclusive."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    rough = span / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1.0, 2.0, 2.5, 5.0, 10.0) if f * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def histogram(
    everything: Floats, selected: Floats | None, *, label: str, cut: float | None = None
) -> Markup:
    """Overlaid distributions, each in shares of its own total, with their means.

    Args:
        everything: Scores of all pairs, shape (pairs,), not empty.
        selected: Scores of the selected pairs; None if there is no selection.
        label: Name of the score.
        cut: The lowest selected value, if the selection depends on this score.
    """
    import numpy as np

    low, high = float(everything.min()), float(everything.max())
    if high - low < 1e-6:
        low, high = low - 0.05, high + 0.05
    # With few values in many bins, the chart would show mostly noise.
    bins = min(max(math.isqrt(4 * len(everything)), _BINS[0]), _BINS[1])
    edges = np.linspace(low, high, bins + 1)
    layers = [("all", "all pairs", everything)]
    if selected is not None and len(selected):
        layers.append(("sel", "selected", selected))
    counts = [np.histogram(values, edges)[0] for _, _, values in layers]
    shares = [c / len(v) for c, (_, _, v) in zip(counts, layers, strict=True)]
    top = max(float(share.max()) for share in shares)
    frame = _Frame(low, high, 0.0, top)
    parts = [frame.axes("share of pairs", percent=True)]
    for (name, title, _), count, share in zip(layers, counts, shares, strict=True):
        for n in np.flatnonzero(count):
            about = f"{edges[n]:.3f} to {edges[n + 1]:.3f}: {count[n]:,} {title} ({share[n]:.1%})"
            parts.append(frame.bar(name, edges[n], edges[n + 1], share[n], about))
    for name, title, values in layers:
        parts.append(frame.upright(f"mean {name}", float(values.mean()), f"mean of {title}"))
    if cut is not None:
        parts.append(frame.upright("cut", cut, "cut of the selection"))
    means = ", ".join(f"mean of {title} {values.mean():.3f}" for _, title, values in layers)
    return _svg(parts, f"Distribution of {label}: {means}")


def measure_histogram(rule: Distribution, *, label: str) -> Markup:
    """The distribution of a rule's measure with its bounds; rejected values are pale.

    Args:
        rule: The distribution; its counts are not all 0.
        label: Name of the rule.
    """
    counts, edges, (low, high) = rule.counts, rule.edges, rule.bounds
    shares = counts / counts.sum()
    last = len(counts) - 1
    frame = _Frame(float(edges[0]), float(edges[-1]), 0.0, float(shares.max()))
    parts = [frame.axes("share of captions", percent=True)]
    for n in counts.nonzero()[0]:
        outside = (low is not None and edges[n + 1] < low) or (high is not None and edges[n] > high)
        start = rule.lowest if n == 0 and rule.below else edges[n]
        end = rule.highest if n == last and rule.above else edges[n + 1]
        about = f"{start:.4g} to {end:.4g}: {counts[n]:,} captions ({shares[n]:.1%})"
        css = "out" if outside else "sel"
        parts.append(frame.bar(css, edges[n], edges[n + 1], shares[n], about))
    for name, cut in (("lowest allowed", low), ("highest allowed", high)):
        if cut is not None and edges[0] <= cut <= edges[-1]:
            parts.append(frame.upright("cut", cut, name))
    limits = ", ".join(
        f"{n} {v:g}" for n, v in (("at least", low), ("at most", high)) if v is not None
    )
    return _svg(parts, f"Distribution of {label} over {counts.sum():,} captions; {limits}")


def rising_line(values: Sequence[float], *, label: str) -> Markup:
    """A line over 1, 2, ... with a dot at each value."""
    low, high = min(values), max(values)
    margin = (high - low) * 0.25 or 0.01
    frame = _Frame(1, max(2, len(values)), low - margin, high + margin, side=26)
    points = [(frame.x(n), frame.y(value)) for n, value in enumerate(values, 1)]
    title = "mean score (the axis does not begin at 0), by images per caption"
    parts = [frame.axes(title, x_ticks=range(1, len(values) + 1))]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts.append(f'<polyline class="line" points="{path}"/>')
    # Every dot has a tooltip; numbers are shown only as far as they do not overlap.
    every = math.ceil(len(values) / 6)
    for n, ((x, y), value) in enumerate(zip(points, values, strict=True)):
        text = f"best of {n + 1}: {value:.4f}"
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{text}</title>')
        parts.append("</circle>")
        if n % every == 0 or n == len(values) - 1:
            parts.append(
                f'<text class="value" x="{x + 10:.1f}" y="{y - 10:.1f}">{value:.3f}</text>'
            )
    numbers = ", ".join(f"{n}: {value:.3f}" for n, value in enumerate(values, 1))
    return _svg(parts, f"{label}: {numbers}")


class _Frame:
    """Converts data to coordinates of the drawing, and draws axes."""

    bottom = _HEIGHT - _BOTTOM

    def __init__(self, x0: float, x1: float, y0: float, y1: float, side: float = 0) -> None:
        self._x0, self._x1, self._y0, self._y1 = x0, x1, y0, y1 or 1.0
        self._left, self._right = _LEFT + side, _WIDTH - _RIGHT - side

    def x(self, value: float) -> float:
        share = (float(value) - self._x0) / (self._x1 - self._x0)
        return self._left + share * (self._right - self._left)

    def y(self, value: float) -> float:
        share = (float(value) - self._y0) / (self._y1 - self._y0)
        return self.bottom - share * (self.bottom - _TOP)

    def axes(
        self, title: str, *, percent: bool = False, x_ticks: Sequence[float] | None = None
    ) -> str:
        parts = [f'<text class="axis" x="2" y="12">{for_html(title)}</text>']
        for value in ticks(self._y0, self._y1):
            y = self.y(value)
            text = f"{value * 100:g}%" if percent else f"{value:g}"
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" '
                f'y2="{y:.1f}"/>'
                f'<text class="tick y" x="{_LEFT - 6}" y="{y + 3.5:.1f}">{text}</text>'
            )
        for value in ticks(self._x0, self._x1) if x_ticks is None else x_ticks:
            parts.append(
                f'<text class="tick x" x="{self.x(value):.1f}" y="{_HEIGHT - 9}">{value:g}</text>'
            )
        return f"<g>{''.join(parts)}</g>"

    def bar(self, css: str, low: float, high: float, share: float, about: str) -> str:
        x0, x1, y = self.x(low), self.x(high), self.y(share)
        return (
            f'<rect class="bar {css}" x="{x0 + 0.5:.1f}" y="{y:.1f}" '
            f'width="{max(0.5, x1 - x0 - 1):.1f}" height="{self.bottom - y:.1f}">'
            f"<title>{for_html(about)}</title></rect>"
        )

    def upright(self, name: str, value: float, title: str) -> str:
        x = min(max(self.x(value), self._left), self._right)
        return (
            f'<line class="{name}" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" '
            f'y2="{self.bottom}"><title>{for_html(title)}: {value:.4f}</title></line>'
        )


def _svg(parts: Sequence[str], label: str) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{for_html(label)}">'
        f"{''.join(parts)}</svg>"
    )
