"""Workers that neither die nor tell anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_jobs import Told, ToyJob

from synthvlm.engines import processes, worker_pool
from synthvlm.engines.base import WorkerChange
from synthvlm.engines.processes import ProcessEngine
from synthvlm.engines.worker_pool import HangDetector


class Clock:
    """A time that goes on by the steps of a driver that looks."""

    def __init__(self) -> None:
        self.now = 0.0
        self.detector = HangDetector(lambda: self.now)

    def look_until(self, end: float) -> dict[str, str]:
        """All workers reported up to then."""
        silent = self.detector.newly_silent()
        while self.now < end:
            self.now = min(self.now + 5, end)
            silent |= self.detector.newly_silent()
        return silent


def test_silence_counts_against_the_longest_that_was_broken() -> None:
    clock = Clock()
    detector = clock.detector
    detector.watch("a")
    detector.watch("b")
    assert clock.look_until(500) == {}, "no worker has reported yet: models may take long to load"
    detector.message_from("a")  # after 500 s, so that 5000 are remarkable
    detector.forget("a")
    assert clock.look_until(5000) == {}
    assert list(clock.look_until(5001)) == ["b"], "a worker without a shard may be silent"
    assert clock.look_until(6000) == {}, "reported once"
    assert detector.message_from("b")
    assert not detector.message_from("b")


def test_less_than_a_minute_is_not_remarkable() -> None:
    clock = Clock()
    detector = clock.detector
    detector.watch("a")
    clock.look_until(1)
    detector.message_from("a")
    assert clock.look_until(60) == {}
    assert clock.look_until(61.5) == {"a": "no message for 1 min, the longest wait so far was 1 s"}
    detector.forget("a")
    assert detector.newly_silent() == {}


def test_while_the_driver_is_away_no_time_passes() -> None:
    clock = Clock()
    detector = clock.detector
    detector.watch("a")
    detector.watch("b")
    clock.look_until(1)
    detector.message_from("a")
    clock.now = 1000  # Ctrl-Z, or a store that did not answer
    assert detector.newly_silent() == {}
    detector.message_from("a")
    clock.now = 2000
    # It stays at a second: time in which the driver was away does not count.
    detector.message_from("a")
    assert clock.look_until(2059) == {}
    assert list(clock.look_until(2059.5)) == ["b"]
    assert list(clock.look_until(2060.5)) == ["a"]


def test_a_worker_that_hangs_is_named_until_it_is_heard_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_POLL_S", 0.1)
    monkeypatch.setattr(worker_pool, "_MIN_HANG_S", 2.0)
    monkeypatch.setattr(worker_pool, "_HANG_FACTOR", 1)
    told = Told()
    job = ToyJob(tmp_path, hanging=(1,), pause_s=0.06)
    updates = list(ProcessEngine(2).run(job, range(6), told))
    changes = [one for one in updates if isinstance(one, WorkerChange) and one.state != "started"]
    assert [one.state for one in changes] == ["silent", "heard"]
    worker, problem = changes[0].worker, changes[0].problem
    assert problem is not None
    assert "it works on shard 1" in problem or "it works on shard 0 and shard 1" in problem
    assert told.lines == [
        f"warning: worker {worker} may hang: {problem}",
        f"worker {worker} reports again",
    ]
    assert told.done == 60
