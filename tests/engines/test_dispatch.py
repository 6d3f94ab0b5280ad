from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthvlm.engines.worker_pool import MAX_ATTEMPTS, ShardQueue
from synthvlm.errors import EngineError


def test_shards_go_out_in_order_two_to_a_worker_and_more() -> None:
    queue = ShardQueue([3, 1, 2])
    assert [queue.take("a"), queue.take("b"), queue.take("a"), queue.take("a")] == [3, 1, 2, None]
    for worker, shard in (("a", 3), ("a", 2), ("b", 1)):
        assert not queue.is_done
        queue.finish(worker, shard)
    assert queue.is_done


def test_all_that_a_dead_worker_had_is_tried_again_at_the_end_and_alone() -> None:
    queue = ShardQueue([1, 2, 3])
    assert (queue.take("a"), queue.take("a")) == (1, 2)
    assert queue.worker_died("a", "killed") == []
    assert queue.take("b") == 3
    assert queue.take("b") is None  # a retried shard runs alone
    queue.finish("b", 3)
    assert queue.take("b") == 1
    assert queue.take("b") is None
    queue.finish("b", 1)
    assert queue.take("b") == 2
    queue.finish("b", 2)
    assert queue.is_done


def test_a_shard_that_killed_three_workers_is_set_aside_and_its_neighbour_is_not() -> None:
    queue = ShardQueue([1, 2])
    assert (queue.take("a"), queue.take("a")) == (1, 2)
    queue.worker_died("a", "first")
    assert queue.take("b") == 1
    queue.finish("b", 1)
    assert queue.take("b") == 2
    assert queue.worker_died("b", "second") == []
    assert queue.take("c") == 2
    (lost,) = queue.worker_died("c", "third")
    assert (lost.shard, lost.deaths, lost.problem) == (2, MAX_ATTEMPTS, "third")
    assert queue.is_done


def test_a_lost_machine_is_no_shards_fault() -> None:
    queue = ShardQueue([1, 2])
    for _ in range(20):
        assert (queue.take("a"), queue.take("a")) == (1, 2)
        assert queue.worker_died("a", "its machine is gone", blame=False) == []


def test_workers_that_all_die_stop_the_run() -> None:
    queue = ShardQueue(range(100))
    for _ in range(9):
        queue.take("a")
        queue.worker_died("a", "no such GPU")
    queue.take("a")
    with pytest.raises(EngineError, match=r"10 workers died in a row.*no such GPU"):
        queue.worker_died("a", "no such GPU")


@given(st.lists(st.sampled_from("nfdl"), max_size=200), st.integers(1, 12))
def test_no_shard_is_lost_or_doubled(actions: list[str], count: int) -> None:
    """Whatever workers do: each shard ends finished once, or set aside once."""
    queue = ShardQueue(range(count))
    assigned: dict[str, list[int]] = {"a": [], "b": []}
    ended: list[int] = []
    for turn, action in enumerate(actions):
        worker = "ab"[turn % 2]
        if action == "n":
            shard = queue.take(worker)
            if shard is not None:
                assigned[worker].append(shard)
        elif action == "f" and assigned[worker]:
            shard = assigned[worker].pop(0)
            queue.finish(worker, shard)
            ended.append(shard)
        elif action in "dl" and assigned[worker]:
            lost = queue.worker_died(worker, "x", workers=100, blame=action == "d")
            ended += [one.shard for one in lost]
            assigned[worker] = []
    for worker in assigned:  # a calm end
        for shard in assigned[worker]:
            queue.finish(worker, shard)
            ended.append(shard)
    while (shard := queue.take("a")) is not None:
        queue.finish("a", shard)
        ended.append(shard)
    assert queue.is_done
    assert sorted(ended) == list(range(count))
