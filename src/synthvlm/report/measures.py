"""How each rule's measure is distributed, and which captions lie nearest to its bounds."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synthvlm.stages.rules import bounds_of, rules_on

if TYPE_CHECKING:
    import numpy.typing as npt

    from synthvlm.recipe import Recipe
    from synthvlm.stages.rules import Bounds
    from synthvlm.store import Marker, RunFolder

__all__ = ["Borderline", "Distribution", "read_distributions"]

_BINS = 40
_SAMPLES = 4


@dataclass(frozen=True, slots=True)
class Borderline:
    """A caption near a bound: its text, its measure, and whether the rule rejected it."""

    text: str
    measure: float
    rejected: bool


@dataclass(frozen=True, slots=True)
class Distribution:
    """A rule's measure over the captions that it measured.

    Attributes:
        name: Of the rule.
        counts: Captions in each bin, shape (bins,).
        edges: Of the bins, shape (bins + 1,).
        bounds: Lowest and highest allowed value.
        borderline: The rejected captions nearest to a bound, then the kept ones nearest to one.
    """

    name: str
    counts: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]
    bounds: Bounds
    borderline: tuple[Borderline, ...]

    @property
    def measured(self) -> int:
        """How many captions were measured."""
        return int(self.counts.sum())


def read_distributions(
    run: RunFolder, recipe: Recipe, curated: Mapping[int, Marker]
) -> tuple[Distribution, ...]:
    """One distribution for each rule that is on and measured a caption.

    The ``captions/`` tables are read twice, a shard at a time: for the ranges, then the counts.
    """
    bounds = bounds_of(recipe, rules_on(recipe))
    files = [name for _, marker in sorted(curated.items()) if (name := marker.file("captions"))]
    ranges = dict.fromkeys(bounds, (math.inf, -math.inf))
    for file in files if bounds else ():
        table = run.read_table(file, list(bounds))
        for name, (low, high) in ranges.items():
            values = _numbers(table, name)
            if len(values):
                ranges[name] = min(low, float(values.min())), max(high, float(values.max()))
    found = {
        name: _Collector(name, bounds[name], low, high)
        for name, (low, high) in ranges.items()
        if low <= high
    }
    for file in files if found else ():
        table = run.read_table(file, ["id", "text", "rejected_by", "kept", *found])
        for collector in found.values():
            collector.add(table)
    return tuple(collector.result() for collector in found.values())


class _Collector:
    def __init__(self, name: str, bounds: Bounds, low: float, high: float) -> None:
        self._name, self._bounds = name, bounds
        if high - low < 1e-9:
            low, high = low - 0.5, high + 0.5
        self._edges = np.linspace(low, high, _BINS + 1)
        self._counts = np.zeros(_BINS, np.int64)
        self._nearest: dict[bool, list[tuple[float, str, str, float]]] = {True: [], False: []}

    def add(self, table: Any) -> None:
        values = table[self._name].to_numpy(zero_copy_only=False)
        self._counts += np.histogram(values[~np.isnan(values)], self._edges)[0]
        cuts = np.array([cut for cut in self._bounds if cut is not None])
        away = np.abs(values[:, None] - cuts[None]).min(axis=1)
        rejected = np.array(table["rejected_by"].to_pylist(), np.object_) == self._name
        kept = table["kept"].to_numpy(zero_copy_only=False).astype(bool)
        for side, mask in ((True, rejected), (False, kept)):
            rows = np.flatnonzero(mask & ~np.isnan(values))
            rows = rows[np.argsort(away[rows], kind="stable")[:_SAMPLES]]
            picked = table.take(rows)
            entries = zip(
                away[rows].tolist(),
                picked["id"].to_pylist(),
                picked["text"].to_pylist(),
                values[rows].tolist(),
                strict=True,
            )
            self._nearest[side] = heapq.nsmallest(_SAMPLES, [*self._nearest[side], *entries])

    def result(self) -> Distribution:
        borderline = tuple(
            Borderline(text, measure, side)
            for side, entries in self._nearest.items()
            for _, _, text, measure in entries
        )
        return Distribution(self._name, self._counts, self._edges, self._bounds, borderline)


def _numbers(table: Any, name: str) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = table[name].to_numpy(zero_copy_only=False)
    return values[~np.isnan(values)]
