"""Which candidates are dropped part-way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from synthvlm.stages.early_rejection import PreviewRule

SCORES = st.lists(st.integers(0, 9).map(float), min_size=1, max_size=8)


@given(SCORES, st.integers(1, 8), st.integers(0, 3).map(float), st.integers(0, 8))
def test_a_candidate_is_measured_by_those_before_it_whatever_the_batches(
    scores: list[float], size: int, margin: float, known: int
) -> None:
    keys = [("c", n) for n in range(len(scores))]
    rule = PreviewRule(margin, dict(zip(keys[:known], scores[:known], strict=True)))
    kept = []
    for start in range(known, len(keys), size):
        kept += rule.keep(keys[start : start + size], scores[start : start + size])
    expected = [
        not scores[:n] or score >= max(scores[:n]) - margin for n, score in enumerate(scores)
    ]
    assert kept == expected[known:]


def test_captions_do_not_measure_each_other() -> None:
    rule = PreviewRule(0.0, {("a", 0): 5.0})
    assert rule.keep([("b", 0), ("a", 1), ("b", 1)], [1.0, 4.0, 2.0]) == [True, False, True]
