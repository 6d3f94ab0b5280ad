"""Coverage: against a plain greedy selection, and what it must not depend on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tables import embeddings, pairs_of, selected_ids

from synthvlm.components.component import LoadContext
from synthvlm.selectors import SELECTORS, coverage
from synthvlm.selectors.base import matrix
from synthvlm.selectors.coverage import CoverageSelector, greedy, parts_of


def selector(**options: Any) -> CoverageSelector:
    loaded = SELECTORS.load("coverage", SELECTORS.settings("coverage", options), LoadContext())
    assert isinstance(loaded, CoverageSelector)
    return loaded


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def plain_greedy(similarity: np.ndarray, bonus: np.ndarray, count: int) -> list[int]:
    """Every gain computed anew for every choice."""
    covered, rows = np.zeros(len(bonus)), []
    for _ in range(count):
        gains = np.maximum(similarity - covered, 0).sum(axis=1) + bonus
        gains[rows] = -np.inf
        rows.append(int(gains.argmax()))
        covered = np.maximum(covered, similarity[rows[-1]])
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_lazy_is_what_plain_greedy_selects(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit(rng.standard_normal((60, 6)))
    # Multiples of 1/8: sums are exact, and there are ties.
    similarity = np.maximum(np.round(8 * vectors @ vectors.T) / 8, 0).astype(np.float32)
    bonus = (rng.integers(-8, 8, 60) / 8).astype(np.float32)
    rows, gains = greedy(similarity, bonus, 60)
    assert rows.tolist() == plain_greedy(similarity, bonus, 60)
    assert (np.diff(gains) <= 0).all()


def test_a_caption_that_stands_for_many_is_first_and_its_twins_are_last() -> None:
    """Four captions of one direction, two of another, one alone; all score the same."""
    vectors = np.eye(3)[[0, 0, 0, 0, 1, 1, 2]]
    pairs = pairs_of([0.5] * 7, {"text_embedding": embeddings(vectors)})
    rows = selector().select(pairs, None)
    assert rows.tolist() == [0, 4, 6, 1, 2, 3, 5]
    assert selector().select(pairs, 3).tolist() == [0, 4, 6]
    assert selector().select(pairs.slice(0, 0), 3).tolist() == []
    assert selector().select(pairs, 100).tolist() == rows.tolist()


def test_the_weight_of_the_score_decides_between_twins_and_then_over_coverage() -> None:
    vectors = np.eye(3)[[0, 0, 0, 0, 1, 1, 2]]
    scores = [0.1, 0.9, 0.2, 0.3, 0.8, 0.4, 0.0]
    pairs = pairs_of(scores, {"text_embedding": embeddings(vectors)})
    assert selector(score_weight=0.1).select(pairs, 3).tolist() == [1, 4, 6]
    assert sorted(selector(score_weight=50.0).select(pairs, 3).tolist()) == [1, 4, 5]


def test_images_count_where_they_are_asked_for() -> None:
    texts, images = np.eye(4)[[0, 0, 1, 1]], np.eye(4)[[0, 1, 1, 1]]
    columns = {"text_embedding": embeddings(texts), "image_embedding": embeddings(images)}
    pairs = pairs_of([0.5] * 4, columns)
    assert selector(embeddings="text").select(pairs, 2).tolist() == [0, 2]
    assert selector(embeddings="image").select(pairs, 2).tolist() == [1, 0]
    # Means: rows 1 and 2 stand for 2.5 each; after row 1, row 2 adds most.
    assert selector(embeddings="both").select(pairs, 2).tolist() == [1, 2]
    for name, columns_of in (("image", ["image_embedding"]), ("both", [*columns])):
        settings = SELECTORS.settings("coverage", {"embeddings": name})
        assert list(CoverageSelector.columns(settings)) == columns_of


def world(count: int, seed: int = 0) -> Any:
    """Pairs in clusters of uneven sizes."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((12, 16))
    labels = rng.integers(0, 12, count) ** 2 // 12
    vectors = unit(centers[labels] + 0.5 * rng.standard_normal((count, 16)))
    scores = rng.integers(0, 50, count) / 50
    return pairs_of(scores.tolist(), {"text_embedding": embeddings(vectors)})


def covered(pairs: Any, rows: np.ndarray) -> float:
    vectors = unit(matrix(pairs, "text_embedding").astype(np.float64))
    return float((vectors @ vectors[rows].T).max(axis=1).mean())


def test_two_levels_cover_nearly_as_well_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = world(600)
    whole = selector().select(pairs, 60)
    monkeypatch.setattr(coverage, "PART", 100)
    cut = selector().select(pairs, 60)
    assert len(set(cut.tolist())) == 60
    random = np.random.default_rng(0).permutation(600)[:60]
    assert covered(pairs, cut) > covered(pairs, random) + 0.01
    assert abs(covered(pairs, whole) - covered(pairs, cut)) < 0.01
    # As it is greedy, a smaller selection is the beginning of a larger one.
    assert selector().select(pairs, 20).tolist() == cut[:20].tolist()


def test_the_second_level_is_greedy_over_all_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as plain greedy where captions of other parts are covered by none."""
    monkeypatch.setattr(coverage, "PART", 40)
    pairs = world(200, seed=3)
    vectors = matrix(pairs, "text_embedding")
    part_of = np.empty(200, np.int64)
    for number, rows in enumerate(parts_of(vectors, 40)):
        part_of[rows] = number
        assert len(rows) <= 40
    unit_vectors = unit(vectors.astype(np.float32))
    similarity = np.maximum(np.rint(unit_vectors @ unit_vectors.T * 2**14) / 2**14, 0)
    similarity = np.where(part_of[:, None] == part_of, similarity, 0)
    scores = pairs["score"].to_numpy()
    bonus = (scores - scores.mean()) / scores.std()
    expected = plain_greedy(similarity, bonus, 150)
    assert selector().select(pairs, 150).tolist() == expected


def test_parts_of_equal_rows_end(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = parts_of(np.ones((25, 4), np.float16), 10)
    assert sorted(len(rows) for rows in parts) == [5, 10, 10]
    assert sorted(np.concatenate(parts).tolist()) == list(range(25))


def test_ties_go_to_the_smaller_caption_id() -> None:
    vectors = np.tile(np.eye(8), (40, 1))
    pairs = pairs_of([0.5] * 320, {"text_embedding": embeddings(vectors)})
    ids = selected_ids(pairs, selector().select(pairs, 10))
    assert ids == [f"{n:03d}" for n in range(10)]
