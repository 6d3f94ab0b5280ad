"""Quotas: how many pairs of each group, and which."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tables import embeddings, pairs_of, selected_ids

from synthvlm.components.component import LoadContext
from synthvlm.selectors import SELECTORS
from synthvlm.selectors.quotas import NONE, QuotaSelector, filled, largest_remainder


def quotas(**options: Any) -> QuotaSelector:
    selector = SELECTORS.load("quotas", SELECTORS.settings("quotas", options), LoadContext())
    assert isinstance(selector, QuotaSelector)
    return selector


def taken(selector: QuotaSelector, pairs: pa.Table, count: int | None, field: str) -> Counter[Any]:
    rows = selector.select(pairs, count)
    return Counter(pairs[field].take(pa.array(rows)).to_pylist())


SOURCES = pa.array(["web"] * 6 + ["books"] * 3 + ["maps"])


@pytest.mark.parametrize(
    ("shares", "count", "expected"),
    [
        ("proportional", 5, {"web": 3, "books": 2}),  # 3, 1.5 and 0.5: ties to the first name
        ("equal", 6, {"web": 2, "books": 3, "maps": 1}),  # maps lacks one: books is the first
        ("equal", 10, {"web": 6, "books": 3, "maps": 1}),
        ({"maps": 0.1, "books": 0.4}, 5, {"web": 2, "books": 2, "maps": 1}),  # 2.5, 2, 0.5
        ({"web": 1.0}, 8, {"web": 6, "books": 2}),  # then by what is left: 1.5 and 0.5
    ],
)
def test_shares_of_the_values_of_a_field(shares: Any, count: int, expected: dict[str, int]) -> None:
    pairs = pairs_of(np.linspace(1, 0, 10).tolist(), {"source": SOURCES})
    found = taken(quotas(field="source", shares=shares), pairs, count, "source")
    assert found == expected


def test_within_a_quota_the_best_are_taken_ties_by_caption_id_and_ranked_by_score() -> None:
    scores = [0.5, 0.5, 0.5, 0.9, 0.1, 0.8, 0.7, 0.7, 0.7, 0.2]
    pairs = pairs_of(scores, {"source": SOURCES})
    selector = quotas(field="source", shares={"web": 0.6, "books": 0.4})
    ids = selected_ids(pairs, selector.select(pairs, 5))
    assert ids == ["003", "005", "006", "007", "000"]  # of 000, 001 and 002 the first


def test_a_thin_quota_is_told() -> None:
    pairs = pairs_of([0.5] * 10, {"source": SOURCES})
    selector = quotas(field="source", shares={"maps": 0.5, "web": 0.5})
    selector.select(pairs, 8)
    assert selector.notes == [
        "quotas: 1 of 3 groups by source have too few pairs (maps 1 of 4); 3 pairs of other "
        "groups take their places"
    ]
    selector.select(pairs, 2)
    assert selector.notes == []


def test_without_a_number_as_many_as_keep_the_shares() -> None:
    pairs = pairs_of([0.5] * 10, {"source": SOURCES})
    assert taken(quotas(field="source"), pairs, None, "source") == Counter(SOURCES.to_pylist())
    equal = taken(quotas(field="source", shares="equal"), pairs, None, "source")
    assert equal == {"web": 1, "books": 1, "maps": 1}


def test_a_number_is_cut_into_bins_by_edges_or_quantiles() -> None:
    values = pa.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, None, float("nan")])
    pairs = pairs_of([0.5] * 8, {"clip_score": values})
    by_edges = quotas(field="clip_score", bins=[0.1, 0.4], shares=[0.25, 0.5, 0.25])
    assert selected_ids(pairs, by_edges.select(pairs, 4)) == ["000", "001", "002", "004"]
    by_quantiles = quotas(field="clip_score", bins=2, shares="equal")
    # Below 0.25, from there, and those without a number: one each.
    assert selected_ids(pairs, by_quantiles.select(pairs, 3)) == ["000", "003", "006"]


def test_clusters_of_embeddings() -> None:
    """Three directions: ten pairs, five and one; equal shares take the same number of each."""
    rng = np.random.default_rng(1)
    directions = np.eye(8)[[0] * 10 + [1] * 5 + [2]]
    vectors = directions + 0.05 * rng.standard_normal(directions.shape)
    pairs = pairs_of(np.linspace(1, 0, 16).tolist(), {"text_embedding": embeddings(vectors)})
    selector = quotas(clusters=3, shares="equal")
    assert selector.columns(SELECTORS.settings("quotas", {"clusters": 3})) == ["text_embedding"]
    found = Counter(vectors[selector.select(pairs, 7)].argmax(axis=1).tolist())
    assert found == {0: 3, 1: 3, 2: 1}
    empty = pairs.slice(0, 0)
    assert len(selector.select(empty, 3)) == 0


GROUPS = st.lists(st.tuples(st.integers(0, 8), st.floats(0, 1)), min_size=1, max_size=6)


@given(GROUPS, st.integers(0, 40))
def test_quotas_are_exact_and_never_more_than_there_is(
    groups: list[tuple[int, float]], count: int
) -> None:
    available = np.array([number for number, _ in groups])
    shares = np.array([share for _, share in groups])
    given_out = largest_remainder(count, shares)
    assert given_out.sum() == (count if shares.sum() > 0 else 0)
    if shares.sum() > 0:
        assert (np.abs(given_out - count * shares / shares.sum()) < 1).all()
    result = filled(available, given_out, shares)
    assert result.sum() == min(given_out.sum(), available.sum())
    assert (result <= available).all()
    assert (result >= np.minimum(given_out, available)).all()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"shares": {"a": 0.5}}, "shares of clusters are proportional or equal"),
        ({"field": "source", "shares": {"a": 0.7, "b": 0.7}}, "together above 0 and at most 1"),
        ({"field": "score", "bins": [0.3, 0.2]}, "edges in ascending order"),
        ({"field": "score", "bins": 1}, "bins must be at least 2, not 1"),
        ({"field": "score", "shares": [0.5, 0.5]}, "shares has 2 numbers, but there are 4 bins"),
        ({"field": "score", "shares": {"low": 0.5}}, "score has bins, not names"),
        ({"field": "source", "shares": [0.25] * 4}, "source has names, not bins"),
        ({"field": "source", "bins": 3}, "bins has no effect on quotas by source"),
        ({"field": "score", "clusters": 5}, "clusters has no effect on quotas by score"),
        ({"bins": [0.5]}, "bins has no effect on quotas by clusters"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        SELECTORS.settings("quotas", options)


@pytest.mark.parametrize(
    ("options", "captions", "expected"),
    [
        (
            {"field": "length", "bins": [5, 10], "shares": [0.5, 0.2, 0.3]},
            {"below 5": 9, "10 and above": 9, NONE: 9},
            {"below 5": 5, "5 to 10": 2, "10 and above": 3, NONE: 0},
        ),
        (
            {"field": "source", "shares": {"web": 0.5, "boks": 0.3}},
            {"web": 9, "books": 9},
            {"boks": 3, "books": 2, "web": 5},
        ),
    ],
)
def test_given_shares_are_those_of_their_groups_whatever_captions_there_are(
    options: dict[str, Any], captions: dict[str, int], expected: dict[str, int]
) -> None:
    assert quotas(**options).sizes(captions, 10) == expected
