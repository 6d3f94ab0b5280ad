"""The maps as inline SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synthvlm.comparison.embedding_map import EmbeddingMap

__all__ = ["map_chart"]

_SIDE, _EDGE = 480, 12
#: Colours of the page's CSS; more sets take them from the start again.
COLOURS = 6


def map_chart(found: EmbeddingMap, labels: Sequence[str], *, what: str) -> Markup:
    """Every point as a dot in the colour of its set; the sets' dots take turns to be on top.

    Args:
        found: The map.
        labels: Of the data sets.
        what: What the points are, for people who cannot see the chart.
    """
    half = _SIDE / 2
    scale = half - _EDGE
    dots = []
    for number, points in enumerate(found.points):
        for rank, (x, y) in enumerate(points):
            place = f'cx="{half + scale * x:.1f}" cy="{half - scale * y:.1f}"'
            dots.append((rank, number, f'<circle class="set-{number % COLOURS}" {place} r="2.6"/>'))
    dots.sort(key=lambda dot: dot[:2])
    numbers = ", ".join(
        f"{len(points):,} of {label}" for points, label in zip(found.points, labels, strict=True)
    )
    title = escape(f"Map of {what}: {numbers}")
    return Markup(
        f'<svg class="map" viewBox="0 0 {_SIDE} {_SIDE}" role="img" aria-label="{title}">'
        f"{''.join(dot for _, _, dot in dots)}</svg>"
    )
