"""Rows of candidates: the score is the weighted sum of what the scorers measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthvlm.stages.generation.candidate_rows import carried

from synthvlm.data import Candidate
from synthvlm.recipe import Recipe


@given(*[st.floats(-1, 1)] * 2, *[st.floats(0.01, 2)] * 2)
def test_the_score_is_the_weighted_sum_by_the_weights_of_now(
    clip: float, ssim: float, clip_weight: float, ssim_weight: float
) -> None:
    weights = [f"scoring.clip.weight={clip_weight}", f"scoring.ssim.weight={ssim_weight}"]
    recipe = Recipe.load("tiny", overrides=weights)
    row = Candidate("a", 0, 1, "ok", "f", scores={"clip": clip, "ssim": ssim}, score=9.0)
    kept = carried(row, recipe)
    assert kept is not None
    assert kept.score == pytest.approx(clip_weight * clip + ssim_weight * ssim, abs=1e-12)
    assert not kept.chosen
