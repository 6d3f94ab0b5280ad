"""The score with which a caption is done."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from synthvlm.stages.calibrate import Sample, choose_threshold
from synthvlm.stages.prompts import Prompt

SCORES = arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.integers(1, 5)),
    elements=st.integers(0, 20).map(lambda n: n / 20),
)


def outcome(scores: np.ndarray, threshold: float) -> tuple[float, float]:
    """Mean score of the winners, and images per caption, caption by caption."""
    winners, images = [], []
    for row in scores:
        stop = next((n for n, score in enumerate(row) if score >= threshold), len(row) - 1)
        winners.append(row[: stop + 1].max())
        images.append(stop + 1)
    return float(np.mean(winners)), float(np.mean(images))


@given(SCORES, st.sampled_from([0.5, 0.9, 1.0]))
def test_it_is_the_lowest_score_that_keeps_the_gain(scores: np.ndarray, keep: float) -> None:
    threshold, images, share = choose_threshold(scores, keep)
    first, best = scores[:, 0].mean(), scores.max(axis=1).mean()
    kept, expected_images = outcome(scores, threshold)
    assert images == pytest.approx(expected_images)
    assert kept >= first + keep * (best - first) - 1e-12
    if best > first:
        assert share == pytest.approx((kept - first) / (best - first))
    lower = [score for score in np.unique(scores) if score < threshold]
    for score in lower:
        assert outcome(scores, score)[0] < first + keep * (best - first) + 1e-12


def test_failures_are_left_out() -> None:
    nan = np.nan
    threshold, images, share = choose_threshold(np.array([[0.1, 0.9], [nan, 0.5], [nan, nan]]), 1.0)
    assert (threshold, images, share) == (0.5, 2.0, 1.0)
    with pytest.raises(ValueError, match="no candidate"):
        choose_threshold(np.array([[nan]]), 0.9)


def test_a_sample_does_not_depend_on_the_order() -> None:
    prompts = [Prompt(f"c{n}", "text", "f") for n in range(50)]
    forward, backward = Sample(10), Sample(10)
    forward.add(prompts)
    backward.add(reversed(prompts))
    assert forward.prompts() == backward.prompts()
    assert len(forward.prompts()) == 10
