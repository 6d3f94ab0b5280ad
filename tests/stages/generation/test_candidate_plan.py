"""Which candidates are generated, which count, which wins."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from synthvlm.data import Candidate
from synthvlm.recipe import Recipe
from synthvlm.stages.generation.candidate_plan import CandidatePlan, Key

RECIPE = Recipe.load("tiny", overrides=["generation.candidates=4"])
SCORES = st.lists(
    st.lists(st.none() | st.integers(0, 9).map(float), min_size=4, max_size=4),
    min_size=1,
    max_size=6,
)


def row(key: Key, score: float | None) -> Candidate:
    if score is None:
        return Candidate(*key, seed=0, status="failed", fingerprint="")
    scores = {"clip": score, "ssim": 0.0}
    return Candidate(*key, seed=0, status="ok", fingerprint="", scores=scores, score=score)


def generated(
    scores: list[list[float | None]], size: int, threshold: float | None, known: set[Key]
) -> tuple[CandidatePlan, list[Key]]:
    """Generate to the end, each batch taken when the next one is already chosen."""
    ids = [f"c{n}" for n in range(len(scores))]
    rows = {(id, i): row((id, i), scores[n][i]) for n, id in enumerate(ids) for i in range(4)}
    thresholds = None if threshold is None else [threshold - n for n in range(4)]
    plan = CandidatePlan(ids, RECIPE, thresholds, {key: rows[key] for key in known if key in rows})
    asked: list[Key] = []
    waiting: list[Key] = []
    while True:
        batch = plan.next_batch(size)
        assert len(batch) <= size
        for key in waiting:
            plan.record(rows[key])
        asked += batch
        if not batch and not waiting:
            return plan, asked
        waiting = batch


@given(SCORES, st.integers(1, 9), st.none() | st.integers(0, 9).map(float))
def test_the_outcome_depends_on_scores_alone(
    scores: list[list[float | None]], size: int, threshold: float | None
) -> None:
    plan, asked = generated(scores, size, threshold, set())
    assert len(asked) == len(set(asked))
    for n, of_caption in enumerate(scores):
        last, best = 3, float("-inf")
        for i, score in enumerate(of_caption):
            best = best if score is None else max(best, score)
            if threshold is not None and best >= threshold - i:
                last = i
                break
        drawn_scores = enumerate(of_caption[: last + 1])
        usable = [(-score, i) for i, score in drawn_scores if score is not None]
        assert plan.winner(f"c{n}") == (min(usable)[1] if usable else None)
        assert [i for id, i in asked if id == f"c{n}"] == list(range(last + 1))
        assert list(plan.unneeded(f"c{n}")) == list(range(last + 1, 4))


@given(
    SCORES,
    st.integers(1, 9),
    st.none() | st.integers(0, 9).map(float),
    st.sets(st.tuples(st.sampled_from([f"c{n}" for n in range(6)]), st.integers(0, 3))),
)
def test_what_is_known_is_not_drawn_and_counts(
    scores: list[list[float | None]], size: int, threshold: float | None, known: set[Key]
) -> None:
    """Nothing that is paid for is lost: the best of what is known and of what is needed wins."""
    plan, asked = generated(scores, size, threshold, known)
    fresh, needed = generated(scores, 1, threshold, set())
    assert not known & set(asked)
    assert set(asked) == set(needed) - known
    for n, of_caption in enumerate(scores):
        there = {i for id, i in known | set(needed) if id == f"c{n}"}
        usable = [(-score, i) for i, score in enumerate(of_caption)
                  if i in there and score is not None]  # fmt: skip
        assert plan.winner(f"c{n}") == (min(usable)[1] if usable else None)
        assert plan.unneeded(f"c{n}") == fresh.unneeded(f"c{n}")


def test_candidates_of_a_caption_are_neighbours_unless_scores_decide() -> None:
    scores: list[list[float | None]] = [[0.0, 0.0, 0.0, 0.0]] * 3
    plan, asked = generated(scores, 6, None, set())
    assert not plan.waits_for_scores()
    assert asked[:5] == [("c0", 0), ("c0", 1), ("c0", 2), ("c0", 3), ("c1", 0)]
    plan, asked = generated(scores, 2, 9.0, set())
    assert plan.waits_for_scores()
    # The third caption goes in while the first two wait for their scores.
    assert asked[:4] == [("c0", 0), ("c1", 0), ("c2", 0), ("c0", 1)]
