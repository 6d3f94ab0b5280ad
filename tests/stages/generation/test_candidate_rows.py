"""Rows of candidates: the score is the weighted sum of what the scorers measured."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthvlm.data import Candidate
from synthvlm.recipe import Recipe
from synthvlm.stages.generation.candidate_plan import reusable_row


@given(*[st.floats(-1, 1)] * 2, *[st.floats(0.01, 2)] * 2)
def test_the_score_is_the_weighted_sum_by_the_weights_of_now(
    clip: float, ssim: float, clip_weight: float, ssim_weight: float
) -> None:
    weights = [f"scoring.clip.weight={clip_weight}", f"scoring.ssim.weight={ssim_weight}"]
    recipe = Recipe.load("tiny", overrides=weights)
    row = Candidate("a", 0, 1, "ok", "f", scores={"clip": clip, "ssim": ssim}, score=9.0)
    reused = reusable_row(row, recipe)
    assert reused is not None
    assert reused.score == pytest.approx(clip_weight * clip + ssim_weight * ssim, abs=1e-12)
    assert not reused.chosen


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("status", ["ok", "surplus", "failed"])
def test_a_stored_row_without_a_finite_score_is_generated_again(bad: float, status: str) -> None:
    recipe = Recipe.load("tiny")
    row = Candidate("a", 0, 1, status, "f", scores={"clip": bad, "ssim": 0.5}, score=bad)
    assert reusable_row(row, recipe) is None
