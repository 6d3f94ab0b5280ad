"""What of the sources is lost, and when that stops a run."""

from __future__ import annotations

import pytest

from synthvlm.data import Caption
from synthvlm.stages.curation.losses import Losses


def losses_of(*sources: tuple[int, int, int]) -> Losses:
    """Losses of sources a, b, ...: rows read well, rows with a problem, the size of each."""
    losses = Losses()
    for name, (good, bad, size) in zip("abc", sources, strict=False):
        rows = [Caption(f"{name}{n}", name, n, "x", "x") for n in range(good)]
        rows += [
            Caption(f"{name}{n}", name, n, "", "", "bad", size) for n in range(good, good + bad)
        ]
        assert list(losses.counted(rows)) == rows
    return losses


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([(0, 1, 1)], "1 of 1 captions are"),
        ([(1, 1, 1)], "1 of 2 captions are"),
        ([(2, 1, 1)], None),
        ([(99, 1, 1)], None),
        ([(98, 2, 1)], "2 of 100 captions are"),
        # One row with a problem, for which 201 lines were read.
        ([(0, 1, 201)], "201 of 201 captions are"),
        ([(9800, 1, 200)], "200 of 10000 captions are"),
        ([(20_000, 1, 200)], None),
        # A source of which nothing, or half, is left, beside a large one.
        ([(10_000, 0, 1), (0, 1, 1)], "1 of 1 captions of source 'b' are"),
        ([(10_000, 0, 1), (3, 3, 1)], "3 of 6 captions of source 'b' are"),
        ([(10_000, 0, 1), (4, 3, 1)], None),
    ],
)
def test_what_stops_a_run(sources: list[tuple[int, int, int]], message: str | None) -> None:
    excess = losses_of(*sources).excess(0.01)
    if message is None:
        assert excess is None
    else:
        assert excess is not None
        assert excess.startswith(message)


def test_what_the_user_allows_is_allowed() -> None:
    assert losses_of((1, 1, 1)).excess(0.5) is None
    assert losses_of((0, 1, 1)).excess(1.0) is None
    assert losses_of((5, 5, 1)).excess(0.4) is not None
