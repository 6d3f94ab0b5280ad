"""Concepts: what is mentioned, and which captions stay; by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthvlm.captions.duplicates.concepts import (
    ConceptMatcher,
    Mentions,
    cap_per_concept,
    frequent_concepts,
    word_forms,
)
from synthvlm.captions.rules.batch import TextBatch
from synthvlm.errors import RecipeError


def mentions_of(rows: Sequence[Sequence[int]]) -> Mentions:
    """From one sequence of concept numbers per row."""
    numbers = [sorted(set(row)) for row in rows]
    starts = np.cumsum([0, *map(len, numbers)])
    concepts = [number for row in numbers for number in row]
    return Mentions(np.array(concepts, np.int32), starts)


def test_whole_words_in_singular_and_plural() -> None:
    matcher = ConceptMatcher(["dog", "hot dog", "city"])
    texts = ["Dogs!", "two hot dogs", "hotdog", "old cities", "a hot day, dog", ""]
    found = matcher.match(TextBatch(texts))
    assert [found.of(row) for row in range(len(texts))] == [[0], [0, 1], [], [2], [0], []]


def test_a_phrase_does_not_run_over_the_end_of_a_text() -> None:
    found = ConceptMatcher(["hot dog"]).match(TextBatch(["so hot", "dog days"]))
    assert len(found.concepts) == 0


def test_a_rare_concept_stays_and_a_frequent_one_is_cut() -> None:
    mentions = mentions_of([[0], [0], [0], [0, 1], []])
    keys = np.array([0, 1, 2, 3, 4])
    assert cap_per_concept(mentions, 2, keys).tolist() == [True, True, False, True, True]
    dropped = cap_per_concept(mentions, 2, keys, keep_unmatched=False)
    assert dropped.tolist() == [True, True, False, True, False]


def test_forms_and_frequent_words() -> None:
    assert word_forms("dogs") >= {"dog", "dogs"}
    assert word_forms("city") == {"city", "cities"}
    batch = TextBatch(["the dog and the cat", "a dog", "two cats", "dogs"])
    assert frequent_concepts([batch], 2) == ["dog", "cat"]


@pytest.mark.parametrize("concepts", [[], ["dog", "!!!"]])
def test_concepts_without_a_word_are_refused(concepts: list[str]) -> None:
    with pytest.raises(RecipeError, match="concepts"):
        ConceptMatcher(concepts)


@given(
    st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=20),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
@settings(max_examples=100, deadline=None)
def test_the_order_of_rows_does_not_matter(rows: list[list[int]], cap: int, random: object) -> None:
    keys = np.arange(len(rows)) * 7919 % 10007
    kept = cap_per_concept(mentions_of(rows), cap, keys)
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    again = cap_per_concept(mentions_of([rows[i] for i in order]), cap, keys[order])
    assert again.tolist() == kept[order].tolist()
    for concept in range(5):
        having = [i for i, row in enumerate(rows) if concept in row]
        assert kept[having].sum() >= min(cap, len(having))


@given(st.lists(st.text(st.characters(codec=None), max_size=40), max_size=5))
@settings(max_examples=100, deadline=None)
def test_any_text(texts: list[str]) -> None:
    assert len(ConceptMatcher(["dog"]).match(TextBatch(texts))) == len(texts)
