"""Ranking on score rows: global, exact, deterministic. No pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from synthvlm.components.contract import contract
from synthvlm.data import selection_schema, take_rows
from synthvlm.selectors.base import check_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.selectors.base import Selector

__all__ = ["asked_count", "by_caption_id", "by_shard", "select_pairs", "with_min_scores"]


def select_pairs(
    candidates: Iterable[tuple[int, pa.Table]],
    *,
    selector: Selector,
    scorers: Sequence[str],
    top_n: int | None = None,
    top_fraction: float | None = None,
    min_scores: Mapping[str, float] | None = None,
    prepare: Callable[[pa.Table], pa.Table] = lambda pairs: pairs,
) -> tuple[int, int, pa.Table]:
    """Keep some of the chosen candidates; one whose score is NaN, infinite or null is no pair.

    Args:
        candidates: Shard number and candidate rows (the columns of ``candidate_schema`` that
            the selection has, and ``chosen``); losers are dropped shard by shard.
        selector: Chooses which.
        scorers: Names of the scorers, whose columns the rows have.
        top_n: Keep that many.
        top_fraction: Keep that share (0 .. 1) of all pairs, rounded up.
        min_scores: Lowest value (inclusive) of columns such as ``clip_score`` or ``score``.
        prepare: Given the pairs that have the minimum scores, in the order of their caption ids:
            drops some, and joins the columns that the selector needs.

    Returns:
        The number of pairs before selection; that of chosen candidates that are no pairs for want
        of a score; and the selection (``selection_schema``), best first.

    Raises:
        PluginError: The selector breaks its contract.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    schema = selection_schema(scorers)
    columns = [name for name in schema.names if name not in ("rank", "shard")]
    parts = []
    for shard, table in candidates:
        chosen = table.filter(table["chosen"]).select(columns)
        parts.append(chosen.append_column("shard", pa.array([shard] * len(chosen), pa.int32())))
    empty = schema.remove(0).empty_table()
    pairs = pa.concat_tables([empty, *(part.select(empty.schema.names) for part in parts)])
    scored = pairs.filter(pc.is_finite(pairs["score"]))
    unscored, pairs = pairs.num_rows - scored.num_rows, scored
    total = pairs.num_rows
    pairs = with_min_scores(pairs, min_scores or {})
    # A selector sees the same table however the captions are cut into shards.
    pairs = prepare(by_caption_id(pairs))
    count = asked_count(total, top_n, top_fraction)
    with contract("selector", selector.name):
        rows = selector.select(pairs, count)
    check_rows(selector.name, rows, pairs.num_rows, count)
    selected = take_rows(pairs.select(schema.names[1:]), rows)
    ranks = pa.array(range(1, selected.num_rows + 1), pa.int64())
    return total, unscored, selected.add_column(0, "rank", ranks).cast(schema)


def asked_count(total: int, top_n: int | None, top_fraction: float | None) -> int | None:
    """How many pairs are asked for of ``total``; None: all that can be had."""
    if top_fraction is None:
        return top_n
    # Rounded first: 0.1 * 30 is 3.0000000000000004 and must not become 4.
    return math.ceil(round(top_fraction * total, 6))


def by_caption_id(pairs: pa.Table) -> pa.Table:
    """Pairs in the order of their caption ids."""
    import pyarrow.compute as pc

    return take_rows(pairs, pc.sort_indices(pairs["caption_id"]).to_numpy())


def with_min_scores(pairs: pa.Table, min_scores: Mapping[str, float]) -> pa.Table:
    """The pairs that have a score, and at least the given values (inclusive) of some columns."""
    import pyarrow.compute as pc

    pairs = pairs.filter(pc.is_finite(pairs["score"]))
    for name, lowest in min_scores.items():
        pairs = pairs.filter(pc.greater_equal(pairs[name], lowest))
    return pairs


def by_shard(rows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Rows with a column ``shard``, shard by shard in ascending order; each in its old order."""
    import numpy as np
    import pyarrow.compute as pc

    order = pc.sort_indices(rows, sort_keys=[("shard", "ascending")])
    rows = take_rows(rows, order.to_numpy())
    shards, counts = np.unique(rows["shard"].to_numpy(), return_counts=True)
    start = 0
    for shard, count in zip(shards.tolist(), counts.tolist(), strict=True):
        yield shard, rows.slice(start, count)
        start += count
