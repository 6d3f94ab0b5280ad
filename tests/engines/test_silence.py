"""Workers that neither die nor tell anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_jobs import Told, ToyJob

from synthvlm.engines import processes, silence
from synthvlm.engines.base import WorkerChange
from synthvlm.engines.processes import ProcessEngine
from synthvlm.engines.silence import Silence


def test_silence_counts_against_the_longest_that_was_broken() -> None:
    now = 0.0
    book = Silence(lambda: now)
    book.begun("a")
    book.begun("b")
    now = 500.0
    assert book.news() == {}, "nobody has said anything: models may take that long to load"
    book.heard("a")  # after 500 s, so that 5000 are remarkable
    book.left("a")
    now = 5000.0
    assert book.news() == {}
    now = 5001.0
    assert list(book.news()) == ["b"], "who has nothing in hand may be silent"
    assert book.news() == {}, "told once"
    assert book.heard("b")
    assert not book.heard("b")


def test_less_than_a_minute_is_not_remarkable() -> None:
    now = 0.0
    book = Silence(lambda: now)
    book.begun("a")
    now = 1.0
    book.heard("a")
    now = 60.0
    assert book.news() == {}
    now = 61.5
    assert book.news() == {
        "a": "nothing heard of it for 1 min, and of no worker for more than 1 s before"
    }
    book.left("a")
    assert book.news() == {}


def test_a_worker_that_hangs_is_named_until_it_is_heard_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_LOOK_S", 0.1)
    monkeypatch.setattr(silence, "_LEAST_S", 2.0)
    monkeypatch.setattr(silence, "_FACTOR", 1)
    told = Told()
    job = ToyJob(tmp_path, hanging=(1,), pause_s=0.06)
    updates = list(ProcessEngine(2).run(job, range(6), told))
    changes = [one for one in updates if isinstance(one, WorkerChange) and one.state != "started"]
    assert [one.state for one in changes] == ["silent", "heard"]
    worker, problem = changes[0].worker, changes[0].problem
    assert problem is not None
    assert "it has shard 1 in hand" in problem or "it has shard 0 and shard 1 in hand" in problem
    assert told.lines == [
        f"warning: worker {worker} may hang: {problem}",
        f"worker {worker} is heard of again",
    ]
    assert told.done == 60
