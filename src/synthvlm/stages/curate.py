"""Verdicts on measured captions: bounds row by row, duplicates over the whole data set."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from typing import TYPE_CHECKING

from synthvlm.data import RULE_MEASURES, caption_schema, fingerprint
from synthvlm.errors import CaptionSourceError
from synthvlm.stages.summary import StageSummary

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from synthvlm.progress import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.store import Marker, RunFolder

__all__ = ["DUPLICATE", "UNREADABLE", "curate"]

STAGE = "curate"
#: Reasons beside the rules' own names.
UNREADABLE = "unreadable"
DUPLICATE = "duplicate"

_KEY_BYTES = 16


def curate(
    run: RunFolder, recipe: Recipe, measures: dict[int, Marker], progress: Progress
) -> StageSummary:
    """Bring ``captions/`` up to date with the measures and the bounds.

    The first rule that fails names the rejection. Among equal texts that pass every rule, the
    first in the order of sources and rows stays.

    Raises:
        CaptionSourceError: Two captions have the same id.
    """
    began = time.monotonic()
    bounds = _bounds(recipe)
    wanted = fingerprint(
        STAGE,
        [measures[shard].fingerprint for shard in sorted(measures)],
        bounds,
        recipe.curation.deduplicate,
    )
    done = run.markers(STAGE)
    stale = {shard for shard in measures if not _is_current(done.get(shard), wanted)}
    if stale:
        progress.start(STAGE, len(measures), "shards")
        rejected = {shard: _failures(run, measures[shard], bounds) for shard in sorted(measures)}
        twins = _duplicates(run, measures, rejected) if recipe.curation.deduplicate else {}
        _refuse_equal_ids(run, measures)
        for shard in sorted(measures):
            if shard in stale:
                _write(run, shard, measures[shard], rejected[shard], twins.get(shard, {}), wanted)
            progress.advance(1)
    markers = run.markers(STAGE)
    run.sweep(STAGE, ["captions"], {s: m for s, m in markers.items() if s in measures})
    counts = totals(markers)
    seconds = time.monotonic() - began
    if stale:
        run.event("stage", stage=STAGE, seconds=round(seconds, 3), rows=counts["captions"])
    return StageSummary(STAGE, len(measures), len(measures) - len(stale), counts, seconds)


def totals(markers: dict[int, Marker]) -> dict[str, int]:
    """Sums of the counts that each curated shard's marker holds."""
    sums: Counter[str] = Counter({"captions": 0, "kept": 0})
    for marker in markers.values():
        sums.update(marker.facts)
    return dict(sums)


def _is_current(marker: Marker | None, wanted: str) -> bool:
    return marker is not None and marker.fingerprint == wanted


def _bounds(recipe: Recipe) -> dict[str, tuple[float | None, float | None]]:
    rules = recipe.curation.rules
    found = {name: getattr(rules, name) for name in RULE_MEASURES}
    return {name: (rule.min, rule.max) for name, rule in found.items() if rule is not None}


def _measured(run: RunFolder, marker: Marker, columns: list[str] | None = None) -> pa.Table:
    name = marker.file("measures")
    assert name is not None
    return run.read_table(name, columns)


def _failures(
    run: RunFolder, marker: Marker, bounds: dict[str, tuple[float | None, float | None]]
) -> np.ndarray:
    """For each row of a shard the reason of its rejection, or None."""
    import numpy as np

    from synthvlm.captions.rules import failed_rule

    table = _measured(run, marker, ["problem", *bounds])
    unreadable = table["problem"].is_valid().to_numpy(zero_copy_only=False)
    reasons = np.full(table.num_rows, None, np.object_)
    if bounds:
        reasons = failed_rule(
            {name: table[name].to_numpy(zero_copy_only=False) for name in bounds}, bounds
        )
    reasons[unreadable] = UNREADABLE
    return reasons


def _keys(values: list[str]) -> bytes:
    return b"".join(
        hashlib.blake2b(value.encode("utf-8"), digest_size=_KEY_BYTES).digest() for value in values
    )


def _equal_to_earlier(keys: bytes) -> dict[int, int]:
    """For each key that occurred before, its position and that of the first one."""
    import numpy as np

    parts = np.frombuffer(keys, dtype=[("high", "<u8"), ("low", "<u8")])
    # lexsort is stable: among equal keys the earliest position comes first.
    order = np.lexsort((parts["low"], parts["high"]))
    ordered = parts[order]
    repeats = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
    twins: dict[int, int] = {}
    for place in repeats:
        earlier = int(order[place - 1])
        twins[int(order[place])] = twins.get(earlier, earlier)
    return twins


def _duplicates(
    run: RunFolder, measures: dict[int, Marker], rejected: dict[int, np.ndarray]
) -> dict[int, dict[int, str]]:
    """For each shard, its rows whose text was kept earlier, with the id of the kept twin."""
    keys = bytearray()
    places: list[tuple[int, np.ndarray]] = []
    starts: list[int] = []
    for shard in sorted(measures):
        passing = rejected[shard] == None  # noqa: E711 (an element-wise comparison)
        starts.append(len(keys) // _KEY_BYTES)
        rows = passing.nonzero()[0]
        texts = _measured(run, measures[shard], ["text"])["text"].take(rows).to_pylist()
        keys += _keys(texts)
        places.append((shard, rows))
    twins = _equal_to_earlier(bytes(keys))
    located = _Locator(starts, places)
    wanted: dict[int, set[int]] = {}
    for first in twins.values():
        shard, row = located(first)
        wanted.setdefault(shard, set()).add(row)
    ids = {
        (shard, row): id
        for shard, rows_wanted in wanted.items()
        for row, id in enumerate(_measured(run, measures[shard], ["id"])["id"].to_pylist())
        if row in rows_wanted
    }
    found: dict[int, dict[int, str]] = {}
    for position, first in twins.items():
        shard, row = located(position)
        found.setdefault(shard, {})[row] = ids[located(first)]
    return found


class _Locator:
    """From a position among all passing captions to its shard and row."""

    def __init__(self, starts: list[int], places: list[tuple[int, np.ndarray]]) -> None:
        self._starts, self._places = starts, places

    def __call__(self, position: int) -> tuple[int, int]:
        from bisect import bisect_right

        part = bisect_right(self._starts, position) - 1
        shard, rows = self._places[part]
        return shard, int(rows[position - self._starts[part]])


def _refuse_equal_ids(run: RunFolder, measures: dict[int, Marker]) -> None:
    keys = bytearray()
    starts = []
    for shard in sorted(measures):
        starts.append((len(keys) // _KEY_BYTES, shard))
        keys += _keys(_measured(run, measures[shard], ["id"])["id"].to_pylist())
    twins = _equal_to_earlier(bytes(keys))
    if not twins:
        return

    def name(position: int) -> tuple[str, str]:
        start, shard = max(pair for pair in starts if pair[0] <= position)
        columns = ["id", "source", "row"]
        row = _measured(run, measures[shard], columns).slice(position - start, 1).to_pylist()[0]
        return row["id"], f"row {row['row']} of source {row['source']!r}"

    position = min(twins)
    id, second = name(position)
    _, first = name(twins[position])
    more = f" (and {len(twins) - 1} more)" if len(twins) > 1 else ""
    raise CaptionSourceError(
        f"two captions have the id {id!r}: {first} and {second}{more}; make the ids unique, or "
        f"leave them out by naming another column in sources.N.id_field"
    )


def _write(
    run: RunFolder,
    shard: int,
    measures: Marker,
    rejected: np.ndarray,
    twins: dict[int, str],
    wanted: str,
) -> None:
    import pyarrow as pa

    table = _measured(run, measures)
    reasons = rejected.copy()
    duplicate_of: list[str | None] = [None] * len(reasons)
    for row, id in twins.items():
        reasons[row] = DUPLICATE
        duplicate_of[row] = id
    kept = [reason is None for reason in reasons]
    for name, values in (
        ("kept", pa.array(kept, pa.bool_())),
        ("rejected_by", pa.array(reasons.tolist(), pa.string())),
        ("duplicate_of", pa.array(duplicate_of, pa.string())),
    ):
        table = table.append_column(name, values)
    table = table.cast(caption_schema())
    facts = {"captions": len(kept), "kept": sum(kept)}
    for reason, count in sorted(Counter(r for r in reasons.tolist() if r is not None).items()):
        facts[reason] = count
    run.commit(STAGE, shard, wanted, [run.write_table("captions", shard, table)], facts)
