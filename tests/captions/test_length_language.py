"""Length and language: values by hand, and any text at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthvlm.captions.rules.batch import TextBatch
from synthvlm.captions.rules.language import LanguageShare
from synthvlm.captions.rules.method import CharCount, WordCount
from synthvlm.errors import RecipeError

WILD = st.lists(st.text(st.characters(codec=None), max_size=40), max_size=5)


@pytest.fixture(scope="module")
def english() -> LanguageShare:
    return LanguageShare("en")


def test_counts_by_hand() -> None:
    batch = TextBatch(["", "a cat", "A cat - 2 dogs!", "\u732b\u732b"])
    assert CharCount().measure(batch).tolist() == [0, 5, 15, 2]
    # A lone dash or number is no word.
    assert WordCount().measure(batch).tolist() == [0, 2, 3, 1]


def test_languages_are_told_apart(english: LanguageShare) -> None:
    values = english.measure(
        TextBatch(
            [
                "a brown dog runs across the wet beach at sunset",
                "ein brauner Hund rennt bei Sonnenuntergang \u00fcber den Strand",
                "un chien brun court sur la plage au coucher du soleil",
            ]
        )
    )
    assert values[0] > 0.1 > max(values[1:])


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(RecipeError, match="'xx' is not known"):
        LanguageShare("xx")


@given(WILD)
@settings(max_examples=100, deadline=None)
def test_any_text(english: LanguageShare, texts: list[str]) -> None:
    batch = TextBatch(texts)
    for rule in (CharCount(), WordCount()):
        values = rule.measure(batch)
        assert values.shape == (len(texts),)
        assert (values >= 0).all()
    shares = english.measure(batch)
    assert np.all((shares >= 0) & (shares <= 1))
