"""The scores with which a caption is done."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from synthvlm.stages.generation.calibrate import Sample, choose_stopping
from synthvlm.stages.generation.prompts import Prompt

SCORES = arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.integers(1, 5)),
    elements=st.integers(0, 20).map(lambda n: n / 20),
)


def outcome(scores: np.ndarray, threshold: float, decay: float) -> tuple[float, float]:
    """Mean score of the winners, and images per caption, order by order and caption by caption."""
    winners, images = [], []
    count = scores.shape[1]
    for row in scores:
        for turn in range(count):
            order = [row[(n + turn) % count] for n in range(count)]
            stop = next(
                (n for n in range(count) if max(order[: n + 1]) >= threshold - decay * n), count - 1
            )
            winners.append(max(order[: stop + 1]))
            images.append(stop + 1)
    return float(np.mean(winners)), float(np.mean(images))


@given(SCORES, st.sampled_from([0.5, 0.9, 1.0]))
def test_the_gain_is_kept_by_no_more_images_than_a_constant_threshold_needs(
    scores: np.ndarray, keep: float
) -> None:
    found = choose_stopping(scores, keep)
    first, best = scores.mean(), scores.max(axis=1).mean()
    kept, images = outcome(scores, found.threshold, found.decay)
    assert found.images == pytest.approx(images)
    assert kept >= first + keep * (best - first) - 1e-9
    if best > first + 1e-9:
        assert found.gain == pytest.approx((kept - first) / (best - first))
    for score in np.unique(scores):
        constant, needed = outcome(scores, score, 0.0)
        if constant >= first + keep * (best - first) + 1e-9:
            assert found.images <= needed + 1e-9


def test_failures_never_win_and_stop_nothing() -> None:
    nan = np.nan
    found = choose_stopping(np.array([[0.1, 0.9], [nan, 0.5], [nan, nan]]), 1.0)
    assert found.gain == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no candidate"):
        choose_stopping(np.array([[nan]]), 0.9)


def test_a_sample_does_not_depend_on_the_order() -> None:
    prompts = [Prompt(f"c{n}", "text", "f") for n in range(50)]
    forward, backward = Sample(10), Sample(10)
    forward.add(prompts)
    backward.add(reversed(prompts))
    assert forward.prompts() == backward.prompts()
    assert len(forward.prompts()) == 10
