"""Times of stages from events that are written down here, with sums done by hand."""

from __future__ import annotations

from typing import Any

import pytest

from synthvlm.progress.stage_state import set_aside, set_aside_notices
from synthvlm.report.times import ScorerTime, scorer_times, stage_times


def shard(
    number: int, time: float, seconds: float, worker: str | None = None, **more: Any
) -> dict[str, Any]:
    named = {} if worker is None else {"worker": worker}
    return {
        "event": "shard", "stage": "generate", "shard": number, "time": time, "seconds": seconds,
        "generated": 100, "generation_seconds": seconds * 0.9, **named, **more,
    }  # fmt: skip


def lost(number: int, time: float = 0.0) -> dict[str, Any]:
    return {
        "event": "set_aside", "stage": "generate", "shard": number, "time": time, "deaths": 2,
        "problem": "its process was killed by SIGKILL (out of memory?)", "candidates": 4000,
    }  # fmt: skip


def test_one_worker_tells_of_a_shard_when_it_has_drawn_the_next() -> None:
    """Three shards of 10 s each, of which the last two are told at the same time."""
    events = [shard(0, 1020, 10), shard(1, 1030, 10), shard(2, 1030, 10)]
    (time,) = stage_times(events, {})
    assert (time.seconds, time.items, time.rate) == (30, 300, 10)
    assert "worker" not in time.note
    assert "the generator waited 10.0% of the time" in time.note


def test_two_workers_at_once_take_half_the_wall_time() -> None:
    events = [
        shard(0, 1010, 10, "0"),
        shard(1, 1010, 10, "1"),
        shard(2, 1020, 10, "0"),
        shard(3, 1020, 10, "1"),
    ]
    (time,) = stage_times(events, {})
    assert (time.seconds, time.items, time.rate) == (20, 400, 20)
    assert "up to 2 workers at once, 10 images a second each" in time.note


def test_time_in_which_no_worker_works_is_no_time_of_the_stage() -> None:
    """A run of one worker; a day later it is resumed with three, one of which is a replacement."""
    events = [
        shard(0, 1010, 10, "0"),
        shard(1, 90_010, 10, "0"),
        shard(2, 90_015, 10, "1"),
        shard(3, 90_040, 20, "2"),
    ]
    (time,) = stage_times(events, {})
    # 1000..1010, 90000..90015 (two overlap by 5), 90020..90040
    assert time.seconds == 45
    assert "up to 2 workers at once, 8 images a second each" in time.note


def test_shards_that_took_no_time_count_for_none() -> None:
    (time,) = stage_times([shard(0, 1000, 0, generated=0), shard(1, 1000, 0, generated=0)], {})
    assert (time.seconds, time.rate) == (0, None)


def test_set_aside_shards_are_those_that_were_not_done_since() -> None:
    events = [lost(3), lost(1), shard(3, 10, 5), lost(2), lost(2)]
    assert [event["shard"] for event in set_aside(events)] == [1, 2]
    (time,) = stage_times(events, {"generate": 1})
    assert "2 shards set aside" in time.note
    assert set_aside_notices(events)[0] == (
        "Shard 1 of the stage generate is set aside: its workers died 2 times (its process was "
        "killed by SIGKILL (out of memory?)). Its 4,000 candidates are missing; the next run "
        "retries it."
    )


def test_what_a_later_look_at_all_shards_leaves_out_is_done() -> None:
    events = [lost(3), lost(1), {"event": "shards", "stage": "generate", "set_aside": [1]}]
    assert [event["shard"] for event in set_aside(events)] == [1]
    other = {"event": "shards", "stage": "calibrate", "set_aside": []}
    assert [event["shard"] for event in set_aside([*events, other])] == [1]
    none = {"event": "shards", "stage": "generate", "set_aside": []}
    assert set_aside([*events, none]) == []
    assert [event["shard"] for event in set_aside([*events, none, lost(2)])] == [2]


def test_a_stage_with_nothing_but_lost_shards_has_no_row() -> None:
    assert stage_times([lost(1)], {}) == []
    assert set_aside([]) == []


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_wall_time_is_between_the_longest_worker_and_the_sum(workers: int) -> None:
    events = sorted(
        (shard(n, 100 + 7.5 * (n // workers + 1), 5 + n % 3, str(n % workers)) for n in range(40)),
        key=lambda event: event["time"],
    )
    (time,) = stage_times(events, {})
    sums = [sum(e["seconds"] for e in events if e["worker"] == str(w)) for w in range(workers)]
    assert max(sums) <= time.seconds + 1e-9
    assert time.seconds <= sum(sums) + 1e-9


def test_the_work_of_scorers_is_summed_up_and_held_against_the_generators() -> None:
    def work(images: int, seconds: float) -> dict[str, Any]:
        return {"device": "cpu", "batches": 2, "images": images, "seconds": seconds}

    events = [
        shard(0, 1010, 10, scorers={"clip": work(16, 0.5), "vqa": work(8, 4.0)}),
        shard(1, 1020, 10, scorers={"clip": work(16, 0.4), "vqa": work(4, 2.0)}),
        shard(2, 1030, 10),  # of a version that did not say so
    ]
    clip, vqa = scorer_times(events)
    assert clip == ScorerTime("clip", "cpu", 4, 32, pytest.approx(0.9), pytest.approx(0.05))
    assert (vqa.images, vqa.rate, vqa.share) == (12, 2.0, pytest.approx(6 / 18))
