"""The ranking, on candidate rows alone."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthvlm.errors import PluginError
from synthvlm.selectors.base import check_rows
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
    total, _, selection = select_pairs(
        ((shard, candidates(shard, 4, 3)) for shard in range(2)),
        selector=TopSelector(),
        scorers=["clip", "ssim"],
        top_n=3,
    )
    assert total == 8
    rows = [(row["rank"], row["shard"], row["caption_id"]) for row in selection.to_pylist()]
    assert rows == [(1, 0, "0-3"), (2, 1, "1-3"), (3, 0, "0-2")]
    assert selection["index"].to_pylist() == [2, 2, 2]


SCORES = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.tuples(*[st.integers(0, 4).map(lambda n: n / 4)] * 3, st.integers(0, 2)),
    max_size=12,
)


@given(
    SCORES,
    st.none() | st.integers(1, 14) | st.floats(0.01, 1.0),
    st.none() | st.sampled_from([0.25, 0.5]),
)
def test_the_selection_is_the_best_pairs_above_the_minimum_ties_by_caption_id(
    pairs: dict[str, tuple[float, float, float, int]],
    limit: float | None,
    minimum: float | None,
) -> None:
    """For any scores, in any shards: what a plain sort of all winners gives."""
    tables = []
    for shard in range(3):
        rows = [
            {"caption_id": id, "index": index, "clip_score": clip, "ssim_score": ssim,
             "score": score, "chosen": index == 1}
            for id, (clip, ssim, score, of) in pairs.items() if of == shard
            for index in range(2)
        ]  # fmt: skip
        table = pa.Table.from_pylist(rows, candidates(0, 1, 1).schema)
        tables.append((shard, table))
    total, _, selection = select_pairs(
        tables,
        selector=TopSelector(),
        scorers=["clip", "ssim"],
        top_n=limit if isinstance(limit, int) else None,
        top_fraction=limit if isinstance(limit, float) else None,
        min_scores={} if minimum is None else {"clip_score": minimum},
    )
    ranked = sorted(
        (-score, id, of)
        for id, (clip, _, score, of) in pairs.items()
        if minimum is None or clip >= minimum
    )
    count = len(ranked)
    if isinstance(limit, int):
        count = limit
    elif limit is not None:
        count = math.ceil(round(limit * len(pairs), 6))
    expected = [(n, id, of, 1) for n, (_, id, of) in enumerate(ranked[:count], 1)]
    assert total == len(pairs)
    columns = (selection[name].to_pylist() for name in ("rank", "caption_id", "shard", "index"))
    assert list(zip(*columns, strict=True)) == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
def test_a_pair_without_a_finite_score_is_never_selected(bad: float | None) -> None:
    """As early versions stored it; not even where more pairs are asked for than there are."""
    table = candidates(0, 4, 2)
    rows = table.to_pylist()
    for row in rows:
        if row["caption_id"] == "0-3":
            row["score"] = row["clip_score"] = bad
    tables = [(0, pa.Table.from_pylist(rows, table.schema))]
    for count, fraction, chosen in ((10, None, 3), (None, 1.0, 3), (None, 0.3, 1), (1, None, 1)):
        total, unscored, selection = select_pairs(
            tables,
            selector=TopSelector(),
            scorers=["clip", "ssim"],
            top_n=count,
            top_fraction=fraction,
        )
        assert (total, unscored) == (3, 1)
        assert selection["caption_id"].to_pylist() == ["0-2", "0-1", "0-0"][:chosen]


def test_by_shard_keeps_the_order_within_a_shard() -> None:
    table = pa.table({"shard": pa.array([2, 0, 2, 0, 7], pa.int32()), "n": [1, 2, 3, 4, 5]})
    found = [(shard, rows["n"].to_pylist()) for shard, rows in by_shard(table)]
    assert found == [(0, [2, 4]), (2, [1, 3]), (7, [5])]
    assert list(by_shard(table.slice(0, 0))) == []


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([0, 1], "it returned no array of row numbers"),
        (np.array([[0, 1]]), "it returned no array of row numbers"),
        (np.array(1), "it returned no array of row numbers"),
        (np.array([0.0, 1.0]), "it returned no array of row numbers"),
        (np.array([True, False]), "it returned no array of row numbers"),
        (np.array([-1, 2]), "it returned rows beyond the 5 pairs"),
        (np.array([0, 5]), "it returned rows beyond the 5 pairs"),
        (np.array([0, 9]), "it returned rows beyond the 5 pairs"),
        (np.array([3, 1, 3]), "it returned a row twice"),
        (np.array([3, 1, 0, 2]), "it returned 4 rows, 3 were asked for"),
    ],
)
def test_what_a_selector_may_not_return(rows: np.ndarray, problem: str) -> None:
    with pytest.raises(PluginError) as refused:
        check_rows("mine", rows, 5, 3)
    assert str(refused.value) == f"selector 'mine': {problem}"


@pytest.mark.parametrize("rows", [[], [0], [4, 0, 2], [2, 3, 4]])
@pytest.mark.parametrize("kind", [np.int64, np.uint8])
@pytest.mark.parametrize("count", [3, None])
def test_what_a_selector_may_return(rows: list[int], kind: type, count: int | None) -> None:
    check_rows("mine", np.array(rows, kind), 5, count)


@pytest.mark.parametrize(("share", "kept"), [(0.3, 3), (0.300_000_4, 4), (0.300_000_01, 3)])
def test_a_share_is_rounded_up_but_for_what_floats_add(share: float, kept: int) -> None:
    selection = select_pairs(
        [(0, candidates(0, 10, 1))],
        selector=TopSelector(),
        scorers=["clip", "ssim"],
        top_fraction=share,
    )[2]
    assert selection.num_rows == kept
