"""Which batches are timed, and what is shown meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from synthvlm.planning.clock import StageClock, TimedBatch, full_batches
from synthvlm.progress.display import SilentProgress


@pytest.mark.parametrize(
    ("sizes", "counted"),
    [
        ([8, 8, 8, 4], [1, 2]),  # the first warms up, the last is not full
        ([8, 4, 4, 4], [2, 3]),  # the first did not fit into memory
        ([1, 1, 2, 2, 4, 4, 8, 2, 2], [5]),  # a size that was being sought
        ([8], []),
        ([8, 3], []),
        ([], []),
    ],
)
def test_full_batches(sizes: list[int], counted: list[int]) -> None:
    batches = [TimedBatch(size, float(number)) for number, size in enumerate(sizes)]
    assert [batch.seconds for batch in full_batches(batches)] == counted


class Shown(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def finish(self, stage: str, line: str, details: Sequence[str] = ()) -> None:
        self.lines += [line, *details]

    def note(self, line: str) -> None:
        self.lines.append(line)


def test_batches_are_kept_by_stage_and_lines_of_hidden_stages_are_not_shown() -> None:
    shown = Shown()
    clock = StageClock(shown, hidden=("measure",))
    for stage in ("measure", "generate"):
        clock.start(stage, 4, "captions")
        for amount in (0, 3, 1):
            clock.advance(amount)
        clock.finish(stage, f"{stage} is done", [f"a detail of {stage}"])
    clock.note("note: something")
    amounts = {
        stage: [batch.amount for batch in batches] for stage, batches in clock.batches.items()
    }
    assert amounts == {"measure": [3, 1], "generate": [3, 1]}
    assert shown.lines == ["generate is done", "a detail of generate", "note: something"]
