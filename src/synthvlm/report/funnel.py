"""From captions in to captions kept: what each rule removed, with samples to look at."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthvlm.data import fingerprint
from synthvlm.stages.curate import NEAR_DUPLICATE, reasons_in_order, reasons_on
from synthvlm.stages.rules import model_rules_on, text_rules_on

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.store import Marker, RunFolder

__all__ = ["Funnel", "Sample", "Step", "count_captions", "read_funnel"]

_SAMPLES = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """A rejected caption: its text, and what spoke against it.

    ``measure`` is the rule's measure; ``note`` says what a number cannot (the problem of an
    unreadable row, the twin of a duplicate).
    """

    source: str
    row: int
    text: str
    measure: float | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """A step of curation: how many captions it removed, how many were left after it."""

    reason: str
    removed: int
    remaining: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Funnel:
    """All captions, the steps of curation in their order, and what was kept."""

    captions: int
    kept: int
    steps: tuple[Step, ...]


def read_funnel(run: RunFolder, recipe: Recipe, curated: Mapping[int, Marker]) -> Funnel:
    """Count rejections from the ``captions/`` tables and draw samples, by a hash of the id."""
    captions = 0
    removed: Counter[str] = Counter()
    drawn: dict[str, list[tuple[str, str, int]]] = {}
    for shard, marker in sorted(curated.items()):
        table = run.read_table(_captions_file(marker), ["id", "rejected_by"])
        captions += table.num_rows
        rejected = table.filter(table["rejected_by"].is_valid())
        pairs = zip(*(column.to_pylist() for column in rejected.columns), strict=True)
        found: dict[str, list[tuple[str, str, int]]] = {}
        for id, reason in pairs:
            found.setdefault(reason, []).append((fingerprint("report", id), id, shard))
        for reason, entries in found.items():
            removed[reason] += len(entries)
            drawn[reason] = heapq.nsmallest(_SAMPLES, [*drawn.get(reason, []), *entries])
    samples = _read_samples(run, recipe, curated, drawn)
    remaining = captions
    steps = []
    for reason in _reasons(recipe, removed):
        remaining -= removed[reason]
        steps.append(Step(reason, removed[reason], remaining, samples.get(reason, ())))
    return Funnel(captions, remaining, tuple(steps))


def count_captions(run: RunFolder, measured: Mapping[int, Marker]) -> int:
    """Number of captions read so far."""
    files = [marker.file("measures") for marker in measured.values()]
    return sum(run.read_table(name, ["row"]).num_rows for name in files if name is not None)


def _captions_file(marker: Marker) -> str:
    name = marker.file("captions")
    assert name is not None
    return name


def _reasons(recipe: Recipe, removed: Counter[str]) -> list[str]:
    """Every step in order: those that are on, and those that removed something all the same."""
    return reasons_in_order([*reasons_on(recipe), *(name for name in removed if removed[name])])


def _read_samples(
    run: RunFolder,
    recipe: Recipe,
    curated: Mapping[int, Marker],
    drawn: Mapping[str, list[tuple[str, str, int]]],
) -> dict[str, tuple[Sample, ...]]:
    """The rows of the drawn ids; text is read only of the shards that hold one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted: dict[int, list[str]] = {}
    for entries in drawn.values():
        for _, id, shard in entries:
            wanted.setdefault(shard, []).append(id)
    columns = ["id", "source", "row", "text", "problem", "duplicate_of"]
    columns += [*text_rules_on(recipe), *model_rules_on(recipe)]
    rows: dict[str, dict[str, Any]] = {}
    for shard, ids in wanted.items():
        table = run.read_table(_captions_file(curated[shard]), columns)
        chosen = table.filter(pc.is_in(table["id"], pa.array(ids, pa.string())))
        rows.update((row["id"], row) for row in chosen.to_pylist())
    return {
        reason: tuple(_sample(reason, rows[id]) for _, id, _ in entries)
        for reason, entries in drawn.items()
    }


def _sample(reason: str, row: dict[str, Any]) -> Sample:
    note = row["problem"]
    if row["duplicate_of"] is not None:
        nearly = "nearly the " if reason == NEAR_DUPLICATE else ""
        note = f"{nearly}same text as {row['duplicate_of']}"
    return Sample(row["source"], row["row"], row["text"], row.get(reason), note)
