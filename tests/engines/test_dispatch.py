from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthvlm.engines.worker_pool import ATTEMPTS, Dispatch
from synthvlm.errors import EngineError


def test_shards_go_out_in_order_two_to_a_worker_and_more() -> None:
    book = Dispatch([3, 1, 2])
    assert [book.next("a"), book.next("b"), book.next("a"), book.next("a")] == [3, 1, 2, None]
    for worker, shard in (("a", 3), ("a", 2), ("b", 1)):
        assert not book.is_over
        book.finished(worker, shard)
    assert book.is_over


def test_all_that_a_dead_worker_had_is_tried_again_at_the_end_and_alone() -> None:
    book = Dispatch([1, 2, 3])
    assert (book.next("a"), book.next("a")) == (1, 2)
    assert book.died("a", "killed") == []
    assert book.next("b") == 3
    assert book.next("b") is None  # it has something in hand, and a suspect is done alone
    book.finished("b", 3)
    assert book.next("b") == 1
    assert book.next("b") is None
    book.finished("b", 1)
    assert book.next("b") == 2
    book.finished("b", 2)
    assert book.is_over


def test_a_shard_that_killed_three_workers_is_set_aside_and_its_neighbour_is_not() -> None:
    book = Dispatch([1, 2])
    assert (book.next("a"), book.next("a")) == (1, 2)
    book.died("a", "first")
    assert book.next("b") == 1
    book.finished("b", 1)
    assert book.next("b") == 2
    assert book.died("b", "second") == []
    assert book.next("c") == 2
    (lost,) = book.died("c", "third")
    assert (lost.shard, lost.deaths, lost.problem) == (2, ATTEMPTS, "third")
    assert book.is_over


def test_a_lost_machine_is_no_shards_fault() -> None:
    book = Dispatch([1, 2])
    for _ in range(20):
        assert (book.next("a"), book.next("a")) == (1, 2)
        assert book.died("a", "its machine is gone", blame=False) == []


def test_workers_that_all_die_stop_the_run() -> None:
    book = Dispatch(range(100))
    for _ in range(9):
        book.next("a")
        book.died("a", "no such GPU")
    book.next("a")
    with pytest.raises(EngineError, match=r"10 workers died one after the other.*no such GPU"):
        book.died("a", "no such GPU")


@given(st.lists(st.sampled_from("nfdl"), max_size=200), st.integers(1, 12))
def test_no_shard_is_lost_or_doubled(actions: list[str], count: int) -> None:
    """Whatever workers do: each shard ends finished once, or set aside once."""
    book = Dispatch(range(count))
    hands: dict[str, list[int]] = {"a": [], "b": []}
    ended: list[int] = []
    for turn, action in enumerate(actions):
        worker = "ab"[turn % 2]
        if action == "n":
            shard = book.next(worker)
            if shard is not None:
                hands[worker].append(shard)
        elif action == "f" and hands[worker]:
            shard = hands[worker].pop(0)
            book.finished(worker, shard)
            ended.append(shard)
        elif action in "dl" and hands[worker]:
            lost = book.died(worker, "x", workers=100, blame=action == "d")
            ended += [one.shard for one in lost]
            hands[worker] = []
    for worker in hands:  # a calm end
        for shard in hands[worker]:
            book.finished(worker, shard)
            ended.append(shard)
    while (shard := book.next("a")) is not None:
        book.finished("a", shard)
        ended.append(shard)
    assert book.is_over
    assert sorted(ended) == list(range(count))
