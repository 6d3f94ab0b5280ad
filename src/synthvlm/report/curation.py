"""The facts of curation: removed captions by step, measures of rules, near-duplicates."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synthvlm.stages.curation.curate import NEAR_DUPLICATE, reasons_in_order, reasons_on
from synthvlm.stages.curation.curated import sample_key, without_measure
from synthvlm.stages.curation.rules import bounds_of, model_rules_on, text_rules_on

if TYPE_CHECKING:
    import numpy.typing as npt

    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder
    from synthvlm.stages.curation.rules import Bounds

__all__ = [
    "Borderline",
    "Distribution",
    "Funnel",
    "NearDuplicate",
    "Sample",
    "Step",
    "count_captions",
    "read_distributions",
    "read_funnel",
    "read_near_duplicates",
]

REJECTED_SAMPLES = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """A rejected caption, and the reason.

    ``measure`` is the rule's measure. ``note`` is a reason in words: the problem of an unreadable
    row, or the text that a duplicate repeats.
    """

    source: str
    row: int
    text: str
    measure: float | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """A step of curation: how many captions it removed, and how many were left."""

    reason: str
    removed: int
    remaining: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Funnel:
    """The number of captions read and kept, and the steps of curation in order."""

    captions: int
    kept: int
    steps: tuple[Step, ...]

    def removed(self, reason: str) -> int:
        """How many captions the step of a reason removed."""
        return sum(step.removed for step in self.steps if step.reason == reason)


def read_funnel(
    run: RunFolder,
    recipe: Recipe,
    curated: Mapping[int, Marker],
    samples: int = REJECTED_SAMPLES,
) -> Funnel:
    """Count rejections in the ``captions/`` tables, and choose samples by a hash of the id.

    Args:
        run: The run folder.
        recipe: The recipe.
        curated: Markers of the stage curate.
        samples: Rejected captions of each step.
    """
    captions = 0
    removed: Counter[str] = Counter()
    chosen: dict[str, list[tuple[str, str, int]]] = {}
    for shard, marker in sorted(curated.items()):
        table = run.read_table(_captions_file(marker), ["id", "rejected_by"])
        captions += table.num_rows
        rejected = table.filter(table["rejected_by"].is_valid())
        pairs = zip(*(column.to_pylist() for column in rejected.columns), strict=True)
        by_reason: dict[str, list[tuple[str, str, int]]] = {}
        for id, reason in pairs:
            by_reason.setdefault(reason, []).append((sample_key(id), id, shard))
        for reason, entries in by_reason.items():
            removed[reason] += len(entries)
            before = chosen.get(reason, [])
            chosen[reason] = heapq.nsmallest(samples, [*before, *entries])
    texts = _read_samples(run, recipe, curated, chosen)
    remaining = captions
    steps = []
    for reason in _reasons(recipe, removed):
        remaining -= removed[reason]
        steps.append(Step(reason, removed[reason], remaining, texts.get(reason, ())))
    return Funnel(captions, remaining, tuple(steps))


def count_captions(measured: Mapping[int, Marker]) -> int:
    """Number of captions read so far."""
    return sum(marker.facts["captions"] for marker in measured.values())


def _captions_file(marker: Marker) -> str:
    name = marker.file("captions")
    assert name is not None
    return name


def _reasons(recipe: Recipe, removed: Counter[str]) -> list[str]:
    """All steps in order: those that are on, and those that removed captions before."""
    return reasons_in_order([*reasons_on(recipe), *(name for name in removed if removed[name])])


def _read_samples(
    run: RunFolder,
    recipe: Recipe,
    curated: Mapping[int, Marker],
    chosen: Mapping[str, list[tuple[str, str, int]]],
) -> dict[str, tuple[Sample, ...]]:
    """Read the rows of the chosen ids, only from the shards that have one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ids_by_shard: dict[int, list[str]] = {}
    for entries in chosen.values():
        for _, id, shard in entries:
            ids_by_shard.setdefault(shard, []).append(id)
    columns = ["id", "source", "row", "text", "problem", "rejected_by", "duplicate_of"]
    columns += [*text_rules_on(recipe), *model_rules_on(recipe)]
    rows: dict[str, dict[str, Any]] = {}
    for shard, ids in ids_by_shard.items():
        table = run.read_table(_captions_file(curated[shard]), columns)
        matches = table.filter(pc.is_in(table["id"], pa.array(ids, pa.string())))
        rows.update((row["id"], row) for row in matches.to_pylist())
    return {
        reason: tuple(_sample(reason, rows[id]) for _, id, _ in entries)
        for reason, entries in chosen.items()
    }


def _sample(reason: str, row: dict[str, Any]) -> Sample:
    note = without_measure(row)
    return Sample(row["source"], row["row"], row["text"], row.get(reason), note)


_BINS = 40
NEAREST_SAMPLES = 4
#: Where the whole range is so many times as wide as that without a share of the values at each
#: end, a chart shows the latter: one value far away would leave one bar of all others.
_WIDER, _TAIL = 4, 0.005
#: Values of a shard by which that is decided, at least; half as many more at most.
_RANGE_SAMPLE = 1000


@dataclass(frozen=True, slots=True)
class Borderline:
    """A caption near a bound: its text, its measure, and whether the rule rejected it."""

    text: str
    measure: float
    rejected: bool


@dataclass(frozen=True, slots=True)
class Distribution:
    """The distribution of a rule's measure over all captions that it measured.

    Attributes:
        name: Name of the rule.
        counts: Captions in each bin, int64, shape (bins,).
        edges: Edges of the bins, float64, shape (bins + 1,).
        bounds: Lowest and highest allowed value.
        borderline: The rejected captions nearest to a bound, then the kept ones.
        lowest: The lowest measure; below the first edge where few are far from all others.
        highest: The highest measure, likewise.
        below: Captions below the first edge, which are counted in the first bin.
        above: Captions above the last edge, which are counted in the last bin.
    """

    name: str
    counts: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]
    bounds: Bounds
    borderline: tuple[Borderline, ...]
    lowest: float
    highest: float
    below: int
    above: int

    @property
    def measured(self) -> int:
        """Number of captions that were measured."""
        return int(self.counts.sum())


def read_distributions(
    run: RunFolder,
    recipe: Recipe,
    curated: Mapping[int, Marker],
    nearest: int = NEAREST_SAMPLES,
) -> tuple[Distribution, ...]:
    """One distribution for each rule that is on and has measured a caption.

    The ``captions/`` tables are read twice, one shard at a time: for the ranges, then the counts.

    Args:
        run: The run folder.
        recipe: The recipe.
        curated: Markers of the stage curate.
        nearest: Captions nearest to a bound, of the rejected ones and of the kept ones.
    """
    bounds = bounds_of(recipe, [*text_rules_on(recipe), *model_rules_on(recipe)])
    files = [name for _, marker in sorted(curated.items()) if (name := marker.file("captions"))]
    ranges = {name: _Range() for name in bounds}
    for file in files if bounds else ():
        table = run.read_table(file, list(bounds))
        for name, one in ranges.items():
            one.add(_numbers(table, name))
    collectors = {
        name: _Collector(name, bounds[name], one, nearest)
        for name, one in ranges.items()
        if one.lowest <= one.highest
    }
    for file in files if collectors else ():
        table = run.read_table(file, ["id", "text", "rejected_by", "kept", *collectors])
        for collector in collectors.values():
            collector.add(table)
    return tuple(collector.result() for collector in collectors.values())


class _Range:
    """The range of one measure, shard by shard, and that of nearly all of its values."""

    def __init__(self) -> None:
        self.lowest, self.highest = math.inf, -math.inf
        self._sample: list[npt.NDArray[np.float64]] = []

    def add(self, values: npt.NDArray[np.float64]) -> None:
        if len(values):
            self.lowest = min(self.lowest, float(values.min()))
            self.highest = max(self.highest, float(values.max()))
            self._sample.append(values[:: max(1, len(values) // _RANGE_SAMPLE)])

    def shown(self, bounds: Bounds) -> tuple[float, float]:
        """The range of a chart, wider than 0; bounds are within it unless they are far away."""
        low, high = np.quantile(np.concatenate(self._sample), (_TAIL, 1 - _TAIL)).tolist()
        if self.highest - self.lowest <= _WIDER * (high - low):
            low, high = self.lowest, self.highest
        reach = high - low or math.inf
        near = [b for b in bounds if b is not None and low - reach <= b <= high + reach]
        low, high = min([low, *near]), max([high, *near])
        if high - low < 1e-9:  # all values are equal, but bins need a width
            high = low + 1  # not below: most measures have no values below 0
        return low, high


class _Collector:
    """Collects the distribution of one measure, shard by shard."""

    def __init__(self, name: str, bounds: Bounds, range: _Range, nearest: int) -> None:
        self._name, self._bounds, self._range, self._size = name, bounds, range, nearest
        self._edges = np.linspace(*range.shown(bounds), _BINS + 1)
        self._counts = np.zeros(_BINS, np.int64)
        self._below = self._above = 0
        self._nearest: dict[bool, list[tuple[float, str, str, float]]] = {True: [], False: []}

    def add(self, table: Any) -> None:
        values = table[self._name].to_numpy(zero_copy_only=False)
        measured = values[~np.isnan(values)]
        first, last = self._edges[0], self._edges[-1]
        self._counts += np.histogram(np.clip(measured, first, last), self._edges)[0]
        self._below += int((measured < first).sum())
        self._above += int((measured > last).sum())
        cuts = np.array([cut for cut in self._bounds if cut is not None])
        away = np.abs(values[:, None] - cuts[None]).min(axis=1)
        rejected = np.array(table["rejected_by"].to_pylist(), np.object_) == self._name
        kept = table["kept"].to_numpy(zero_copy_only=False).astype(bool)
        for side, mask in ((True, rejected), (False, kept)):
            rows = np.flatnonzero(mask & ~np.isnan(values))
            rows = rows[np.argsort(away[rows], kind="stable")[: self._size]]
            picked = table.take(rows)
            entries = zip(
                away[rows].tolist(),
                picked["id"].to_pylist(),
                picked["text"].to_pylist(),
                values[rows].tolist(),
                strict=True,
            )
            self._nearest[side] = heapq.nsmallest(self._size, [*self._nearest[side], *entries])

    def result(self) -> Distribution:
        borderline = tuple(
            Borderline(text, measure, side)
            for side, entries in self._nearest.items()
            for _, _, text, measure in entries
        )
        return Distribution(
            self._name,
            self._counts,
            self._edges,
            self._bounds,
            borderline,
            self._range.lowest,
            self._range.highest,
            self._below,
            self._above,
        )


def _numbers(table: Any, name: str) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = table[name].to_numpy(zero_copy_only=False)
    return values[~np.isnan(values)]


_NEAR_DUPLICATE_SAMPLES = 10


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """The text of a dropped caption, and of the one it repeats (None if that is not found)."""

    dropped: str
    kept: str | None


def read_near_duplicates(
    run: RunFolder, curated: Mapping[int, Marker]
) -> tuple[NearDuplicate, ...]:
    """At most ten near-duplicates, chosen by a hash of their id."""
    import pyarrow.compute as pc

    files = [name for _, marker in sorted(curated.items()) if (name := marker.file("captions"))]
    chosen: list[tuple[str, str, str]] = []
    for file in files:
        table = run.read_table(file, ["id", "rejected_by", "duplicate_of"])
        dropped = table.filter(pc.equal(table["rejected_by"], NEAR_DUPLICATE))
        near_duplicates = [
            (sample_key(row["id"]), row["id"], row["duplicate_of"]) for row in dropped.to_pylist()
        ]
        chosen = heapq.nsmallest(_NEAR_DUPLICATE_SAMPLES, [*chosen, *near_duplicates])
    ids = {id for _, *pair in chosen for id in pair}
    texts: dict[str, str] = {}
    for file in files if ids else ():
        texts |= _texts(run, file, ids)
    return tuple(NearDuplicate(texts[id], texts.get(original)) for _, id, original in chosen)


def _texts(run: RunFolder, file: str, ids: set[str]) -> dict[str, str]:
    """The texts of those ids that a table has. Texts are read only if there are any."""
    import pyarrow as pa
    import pyarrow.compute as pc

    here = pc.is_in(run.read_table(file, ["id"])["id"], pa.array(sorted(ids), pa.string()))
    if not pc.any(here).as_py():
        return {}
    table = run.read_table(file, ["id", "text"]).filter(here)
    return dict(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))
