"""The scores with which a caption is done."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from synthvlm.stages.generation.calibrate import Sample
from synthvlm.stages.generation.requests import Prompt
from synthvlm.stages.generation.stopping import choose_stopping, held_out_gain

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
    assert forward.seen == 50


def test_the_gain_held_out_is_that_of_captions_on_which_no_threshold_was_found() -> None:
    """On 20,000 other captions of the same kind the gain lies in the interval; in sample it is
    above."""
    random = np.random.default_rng(0)
    inside, optimism = 0, []
    for _ in range(20):
        sample = random.normal(random.normal(0, 1, (40, 1)), 0.5, (40, 4))
        found = choose_stopping(sample, 0.8)
        others = random.normal(random.normal(0, 1, (4000, 1)), 0.5, (4000, 4))
        best = np.maximum.accumulate(others, axis=1)
        reached = best >= found.threshold - found.decay * np.arange(4)
        stops = np.where(reached.any(axis=1), reached.argmax(axis=1), 3)
        kept = best[np.arange(4000), stops].mean() - others.mean()
        truth = kept / (best[:, -1].mean() - others.mean())
        told = held_out_gain(sample, 0.8)
        assert told.low is not None
        assert told.high is not None
        inside += told.low <= truth <= told.high
        optimism.append(told.value - found.gain)
    assert inside >= 16
    assert np.mean(optimism) < 0.01


@pytest.mark.parametrize("scores", [np.ones((12, 3)), np.array([[0.1, 0.9]]), np.zeros((0, 4))])
def test_where_nothing_can_be_held_out_or_gained_there_is_no_interval(scores: np.ndarray) -> None:
    assert held_out_gain(scores, 0.9).low is None
