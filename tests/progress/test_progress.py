"""What is shown while a run works, and what is known of it."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthvlm.progress.display import LiveProgress, PlainProgress, SilentProgress, Tracker
from synthvlm.progress.stage_state import StageMeter, StageState, duration


class Clock:
    """Seconds that are set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def meter(clock: Clock, total: int | None = 1000, done: int = 0) -> StageMeter:
    return StageMeter("generate", total, "candidates", done, clock)


def test_work_of_earlier_runs_is_no_part_of_the_rate() -> None:
    clock = Clock()
    stage = meter(clock, done=900)
    for _ in range(10):
        clock.now += 1
        stage.advance(2)
    state = stage.state()
    assert (state.done, state.rate, state.seconds_left) == (920, 2.0, 40.0)


def test_the_rate_is_that_of_the_last_minute() -> None:
    clock = Clock()
    stage = meter(clock, total=10_000)
    for _ in range(100):
        clock.now += 1
        stage.advance(1)
    for _ in range(70):
        clock.now += 1
        stage.advance(5)
    assert stage.state().rate == 5.0


def test_the_rate_of_rare_updates_does_not_depend_on_when_it_is_asked() -> None:
    """Batches that take two minutes each, of 30 candidates."""
    clock = Clock()
    stage = meter(clock)
    rates = []
    for _ in range(4):
        for _ in range(12):
            clock.now += 10
            rates.append(stage.state().rate)
        stage.advance(30)
    assert rates[:12] == [None] * 12
    assert set(rates[12:]) == {0.25}


def test_the_time_in_which_models_are_loaded_is_no_part_of_the_rate() -> None:
    clock = Clock()
    stage = meter(clock)
    clock.now += 30
    stage.advance(8)
    assert stage.state().rate == pytest.approx(8 / 30)  # all that is known
    stage.advance(8)  # of a second worker at that moment
    assert stage.state().rate == pytest.approx(16 / 30)
    clock.now += 1
    stage.advance(8)
    clock.now += 1
    stage.advance(8)
    assert stage.state().rate == 12.0  # 24 since the first update


def test_the_rate_of_a_stage_that_hangs_falls() -> None:
    clock = Clock()
    stage = meter(clock)
    clock.now += 1
    stage.advance(10)
    clock.now += 99
    state = stage.state()
    assert state.rate == pytest.approx(20 / 100)  # as if ten more came just now
    assert state.seconds_left == pytest.approx(990 / 0.2)


def test_work_of_a_dead_worker_is_to_be_done_again_at_the_same_speed() -> None:
    clock = Clock()
    stage = meter(clock, total=100)
    for _ in range(30):
        clock.now += 1
        stage.advance(2)
    stage.advance(-30)
    state = stage.state()
    assert (state.done, state.rate, state.seconds_left) == (30, 2.0, 35.0)


def test_nothing_is_told_that_is_not_known() -> None:
    clock = Clock()
    stage = meter(clock, total=None)
    assert stage.state().rate is None
    stage.advance(5)  # in no time: it was there already
    assert stage.state().rate is None
    clock.now += 5
    stage.advance(5)
    state = stage.state()
    assert (state.rate, state.seconds_left, state.workers, state.waited) == (1.0, None, None, None)


def test_nothing_is_left_of_a_stage_that_is_done() -> None:
    assert meter(Clock(), total=5, done=5).state().seconds_left == 0


@given(
    st.lists(st.tuples(st.floats(0, 500), st.integers(-50, 50)), max_size=60),
    st.integers(0, 1000) | st.none(),
)
def test_any_course_of_events_gives_sane_numbers(
    steps: list[tuple[float, int]], total: int | None
) -> None:
    clock = Clock()
    stage = meter(clock, total)
    done = 0
    for seconds, amount in steps:
        clock.now += seconds
        stage.advance(amount)
        state = stage.state()
        assert state.rate is None or state.rate > 0
        assert state.seconds_left is None or state.seconds_left >= 0
        done += amount
        assert state.done == done
        assert StageState.of(json.loads(json.dumps(state.values()))) == state


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        {"stage": "generate"},
        {"stage": None, "unit": None, "done": None},
        meter(Clock()).state().values() | {"done": "many"},
        meter(Clock()).state().values() | {"rate": "nan"},
    ],
)
def test_what_is_no_state_is_none(values: object) -> None:
    assert StageState.of(values) is None


def test_a_state_in_words() -> None:
    state = StageState("generate", "candidates", 1200, 4000, 4.12, 679.6, 4, 0.031, 2)
    assert state.text() == (
        "1,200/4,000 candidates, 4.1/s, 11 min 20 s left, 4 workers, generator waits 3%, 2 failed"
    )
    bare = StageState("measure", "captions", 0, None, None, None, None, None, 0)
    assert bare.text() == "0 captions"
    assert StageState("x", "y", 0, None, None, None, 1, None, 0).worker_parts() == ["1 worker"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3600, "1 h"),
        (12_000, "3 h 20 min"), (90_000, "1 d 1 h"), (86_400 * 1500.0, "1,500 d"),
    ],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_plain_lines_come_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    plain = PlainProgress(clock)
    plain.start("generate", 400, "candidates", 100)
    plain.update_workers(4, 0.03, 2)
    for _ in range(12):
        clock.now += 2
        plain.advance(4)
    plain.finish("generate", "done")
    plain.start("select", 3, "shards")
    clock.now += 20
    plain.advance(1)
    assert capsys.readouterr().out.splitlines() == [
        "generate: 120/400 candidates, 2.0/s, 2 min 20 s left, 4 workers, generator waits 3%, "
        "2 failed",
        "generate: 140/400 candidates, 2.0/s, 2 min 10 s left, 4 workers, generator waits 3%, "
        "2 failed",
        "generate: done",
        "select: 1/3 shards, 0.1/s, 40 s left",
    ]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Rich takes what it writes to for a terminal; its width is set by COLUMNS."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return monkeypatch


def seen(capsys: pytest.CaptureFixture[str]) -> str:
    """What was written, without colours and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (200, "━ 12,345/400,000 candidates 12.3/s 2:46:39 4 workers, generator waits 3%, 2 failed"),
        (100, "━ 12,345/400,000 candidates 12.3/s 2:46:39 4 workers, generator waits 3%, 2 failed"),
        (98, "━ 12,345/400,000 candidates 12.3/s 2:46:39 generator waits 3%, 2 failed"),
        (80, "━ 12,345/400,000 candidates 12.3/s 2:46:39 2 failed"),
        (65, "━ 12,345/400,000 candidates 12.3/s 2:46:39"),
        (57, "generate  12,345/400,000 candidates 12.3/s 2:46:39"),
    ],
)
def test_the_live_line_fits_its_terminal(
    width: int, shown: str, terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.setenv("COLUMNS", str(width))
    live = LiveProgress()
    state = StageState("generate", "candidates", 12_345, 400_000, 12.34, 9_999.0, 4, 0.03, 2)
    live._console.print(live._columns(state))
    (line,) = seen(capsys).splitlines()
    assert line.rstrip().endswith(shown)
    assert len(line.rstrip()) <= width


def test_the_live_display_takes_all_calls(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with LiveProgress() as live:
        live.advance(1)  # no stage yet
        live.update_workers(1, None, 0)
        live.start("measure", None, "captions")
        live.advance(3)
        live.finish("measure", "3 captions read")
        live.start("generate", 0, "candidates")
        live.update_workers(4, 0.5, 1)
        live.note("a [bold]path[/]")
        live._live.refresh()
    out = seen(capsys)
    assert "✓ measure   3 captions read" in out
    assert "a [bold]path[/]" in out
    assert "4 workers, generator waits 50%, 1 failed" in out


class Shown(SilentProgress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def start(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        self.told.append(("start", stage, total, unit, done))

    def advance(self, amount: int) -> None:
        self.told.append(("advance", amount))

    def update_workers(self, workers: int, waited: float | None, *more: object) -> None:
        self.told.append(("update_workers", workers, waited, *more))

    def finish(self, stage: str, line: str, details: Sequence[str] = ()) -> None:
        self.told.append(("finish", stage, line))

    def note(self, line: str) -> None:
        self.told.append(("note", line))


def test_a_tracker_passes_everything_on_and_knows_how_things_are() -> None:
    clock, shown = Clock(), Shown()
    tracker = Tracker(shown, clock)
    assert tracker.snapshot()["stage"] is None
    assert tracker.snapshot()["finished"] == []
    tracker.finish("measure", "3 captions read (up to date)")
    tracker.start("generate", 400, "candidates", 100)
    clock.now += 10
    tracker.advance(50)
    tracker.update_workers(4, 0.25, 3, {"clip": (150, 2.5)})
    tracker.note("a line")
    expected = {
        "stage": "generate", "unit": "candidates", "done": 150, "total": 400, "rate": 5.0,
        "seconds_left": 50.0, "workers": 4, "waited": 0.25, "failed": 3,
        "scorers": {"clip": [150, 2.5]},
        "finished": [
            {
                "stage": "measure", "line": "3 captions read (up to date)", "unit": None,
                "done": None, "total": None,
            }
        ],
    }  # fmt: skip
    assert json.loads(json.dumps(tracker.snapshot())) == expected
    tracker.finish("generate", "done")
    assert tracker.snapshot()["stage"] is None
    assert tracker.snapshot()["finished"][1] == {
        "stage": "generate", "line": "done", "unit": "candidates", "done": 150, "total": 400,
    }  # fmt: skip
    tracker.start("select", 3, "shards")
    assert tracker.snapshot()["workers"] is None
    assert tracker.snapshot()["failed"] == 0
    assert [what for what, *_ in shown.told] == [
        "finish", "start", "advance", "update_workers", "note", "finish", "start",
    ]  # fmt: skip
    assert shown.told[1] == ("start", "generate", 400, "candidates", 100)


def test_a_wall_clock_that_jumps_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    tracker = Tracker(SilentProgress(), clock)
    tracker.start("generate", 100, "candidates")
    clock.now += 10
    monkeypatch.setattr(time, "time", lambda: 0.0)
    tracker.advance(20)
    assert tracker.snapshot()["rate"] == 2.0


def test_many_threads_may_tell_a_tracker() -> None:
    tracker = Tracker(SilentProgress())
    tracker.start("generate", 4000, "candidates")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work() -> None:
        for _ in range(1000):
            tracker.advance(1)
            tracker.snapshot()

    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert tracker.snapshot()["done"] == 4000
