"""Real processes, some of which die."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_jobs import Told, ToyJob

from synthvlm.engines import make_engine
from synthvlm.engines.base import LocalEngine, LostShard, ShardResult, Update, WorkerChange
from synthvlm.engines.processes import ProcessEngine
from synthvlm.errors import EngineError, ModelError


def finished(updates: list[Update]) -> list[int]:
    return sorted(one.shard for one in updates if isinstance(one, ShardResult))


def committed(folder: Path) -> dict[str, int]:
    """How often each shard was committed."""
    return {p.name: len(p.read_text()) for p in folder.iterdir() if p.name.isdecimal()}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_shard_is_done_once(tmp_path: Path, workers: int) -> None:
    engine, told = make_engine("local", workers), Told()
    assert isinstance(engine, LocalEngine if workers == 1 else ProcessEngine)
    # It takes long enough for each to have a shard.
    job = ToyJob(tmp_path, pause_s=0.02 * (workers - 1))
    updates = list(engine.run(job, range(7), told))
    assert finished(updates) == list(range(7))
    assert committed(tmp_path) == {str(n): 1 for n in range(7)}
    assert told.done == 70
    closed = {path.name for path in tmp_path.glob("closed-*")}
    assert len(closed) == workers
    assert (f"closed-{os.getpid()}" in closed) == (workers == 1)
    names = {one.worker for one in updates if isinstance(one, ShardResult)}
    assert names <= {"0", "1"}


def test_a_killed_worker_is_replaced_and_its_shard_done_again(tmp_path: Path) -> None:
    told = Told()
    # One worker: of two, the other might do all the rest before the new one has started.
    updates = list(ProcessEngine(1).run(ToyJob(tmp_path, once=(2,)), range(6), told))
    assert finished(updates) == list(range(6))
    assert set(committed(tmp_path)) == {str(n) for n in range(6)}
    assert told.done == 60  # what the dead one had done of it is taken back
    (death,) = [one for one in updates if isinstance(one, WorkerChange) and one.state == "died"]
    assert death.problem == "its process was killed by SIGKILL (out of memory?)"
    assert sum(isinstance(one, WorkerChange) and one.state == "started" for one in updates) == 2


@pytest.mark.parametrize("how", ["deadly", "raising"])
def test_a_shard_that_kills_its_workers_is_set_aside(tmp_path: Path, how: str) -> None:
    job = ToyJob(tmp_path, **{how: (1,)})
    updates = list(ProcessEngine(2).run(job, range(5), Told()))
    assert finished(updates) == [0, 2, 3, 4]
    (lost,) = [one for one in updates if isinstance(one, LostShard)]
    assert (lost.shard, lost.deaths) == (1, 3)
    wanted = "RuntimeError: shard 1 is cursed" if how == "raising" else "SIGKILL"
    assert wanted in lost.problem
    assert "\n" not in lost.problem


def test_workers_that_never_start_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="10 workers died in a row"):
        list(ProcessEngine(2).run(ToyJob(tmp_path, start_dies=True), range(5), Told()))


def test_an_error_stops_the_run_and_the_others_keep_what_they_have(tmp_path: Path) -> None:
    job = ToyJob(tmp_path, fatal=(0,), pause_s=0.2)
    with pytest.raises(ModelError, match="the model is gone"):
        list(ProcessEngine(2).run(job, range(4), Told()))
    assert list(tmp_path.glob("given-up-*")) or committed(tmp_path)


def test_a_driver_that_stops_early_lets_workers_give_up(tmp_path: Path) -> None:
    updates: Iterator[Update] = ProcessEngine(2).run(
        ToyJob(tmp_path, pause_s=0.05), range(50), Told()
    )
    busy = set()
    for update in updates:
        busy |= {update.worker} if isinstance(update, ShardResult) else set()
        if len(busy) == 2:
            break
    updates.close()  # type: ignore[attr-defined]
    # One had just finished and was waiting for the next shard.
    assert len(list(tmp_path.glob("given-up-*"))) in (1, 2)
    assert len(list(tmp_path.glob("closed-*"))) == 2


def test_a_note_of_a_worker_arrives(tmp_path: Path) -> None:
    told = Told()
    list(ProcessEngine(2).run(NotingJob(tmp_path), range(2), told))
    assert set(told.lines) == {"note: here"}


class NotingJob(ToyJob):
    def __call__(self, progress):  # type: ignore[no-untyped-def]
        progress.note("note: here")
        return super().__call__(progress)
