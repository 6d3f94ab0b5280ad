"""The ranking, on candidate rows alone."""

from __future__ import annotations

import pyarrow as pa

from synthvlm.selectors.selection import by_shard, select_pairs
from synthvlm.selectors.top import TopSelector


def candidates(shard: int, captions: int, each: int) -> pa.Table:
    """The best candidate of each caption is its last; the later a caption, the better."""
    rows = [
        {
            "caption_id": f"{shard}-{caption}",
            "index": index,
            "clip_score": caption / captions,
            "ssim_score": 0.5,
            "score": caption / captions + index / 1000,
            "chosen": index == each - 1,
        }
        for caption in range(captions)
        for index in range(each)
    ]
    table = pa.Table.from_pylist(rows)
    return table.set_column(1, "index", table["index"].cast(pa.int32()))


def test_the_best_of_all_shards_are_ranked() -> None:
    total, selection = select_pairs(
        ((shard, candidates(shard, 4, 3)) for shard in range(2)),
        selector=TopSelector(),
        scorers=["clip", "ssim"],
        top_n=3,
    )
    assert total == 8
    rows = [(row["rank"], row["shard"], row["caption_id"]) for row in selection.to_pylist()]
    assert rows == [(1, 0, "0-3"), (2, 1, "1-3"), (3, 0, "0-2")]
    assert selection["index"].to_pylist() == [2, 2, 2]


def test_by_shard_keeps_the_order_within_a_shard() -> None:
    table = pa.table({"shard": pa.array([2, 0, 2, 0, 7], pa.int32()), "n": [1, 2, 3, 4, 5]})
    found = [(shard, rows["n"].to_pylist()) for shard, rows in by_shard(table)]
    assert found == [(0, [2, 4]), (2, [1, 3]), (7, [5])]
    assert list(by_shard(table.slice(0, 0))) == []
