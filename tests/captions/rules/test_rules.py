"""The model-free rules against Data-Juicer's own results and a naive implementation."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthvlm.captions.rules import METHOD_RULES, RULES
from synthvlm.captions.rules.base import TextRule
from synthvlm.captions.rules.batch import (
    ALNUM,
    SPECIAL,
    UNSPACED,
    TextBatch,
    classify,
    special_characters,
)
from synthvlm.captions.rules.method import (
    CharRepRatio,
    FlaggedWordsRatio,
    WordRepRatio,
    failed_rule,
    load_flagged_words,
    measure,
)
from synthvlm.captions.rules.ngrams import rows_with_repeats

SHARED = Path(__file__).parents[3].parent / "shared"
OWN = Path(__file__).with_name("golden_rules.jsonl")
WORDS = frozenset({"nsfw", "porn", "xxx"})
BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "alnum_ratio": (0.60, None),
    "char_rep_ratio": (None, 0.09373663),
    "flagged_words_ratio": (None, 0.0),
    "special_char_ratio": (0.16534802, 0.42023757),
    "word_rep_ratio": (None, 0.03085751),
}

any_text = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cs", "Cc", "Zs"]),
        st.sampled_from("ab  \n\t.-Aİ\u03a3\u03c3éﬁ🎈nsfwporx"),
    ),
    max_size=80,
)
#: Short alphabets and repeated pieces, so that n-grams do repeat.
repetitive_text = st.builds(
    lambda piece, times, tail: piece * times + tail,
    st.text("ab .\nΣİ", min_size=1, max_size=12),
    st.integers(1, 12),
    any_text,
)


def make_rules(words: frozenset[str] = WORDS) -> list[TextRule]:
    """All five rules, with that list of flagged words."""
    return [
        FlaggedWordsRatio(words) if name == "flagged_words_ratio" else RULES[name]()
        for name in METHOD_RULES
    ]


def naive_measures(text: str, words: frozenset[str] = WORDS, n: int = 10) -> dict[str, float]:
    """The definitions, word for word."""
    special = {chr(code) for code in special_characters()}
    refined = []
    for word in text.replace("\n", " ").replace("\t", " ").split(" "):
        word = word.lower()
        while word and word[0] in special:
            word = word[1:]
        while word and word[-1] in special:
            word = word[:-1]
        refined += [word] if word else []

    def frequencies(grams: list[str]) -> list[int]:
        counts: dict[str, int] = {}
        for gram in grams:
            counts[gram] = counts.get(gram, 0) + 1
        return sorted(counts.values(), reverse=True)

    chars = frequencies([text[i : i + n] for i in range(len(text) - n + 1)])
    grams = frequencies([" ".join(refined[i : i + n]) for i in range(len(refined) - n + 1)])
    top = min(math.floor(math.sqrt(len(chars))), len(chars) - chars.count(1))
    size = len(text) or 1
    return {
        "alnum_ratio": sum(char.isalnum() for char in text) / size,
        "char_rep_ratio": sum(chars[:top]) / sum(chars) if chars else 0.0,
        "flagged_words_ratio": sum(word in words for word in refined) / (len(refined) or 1),
        "special_char_ratio": sum(char in special for char in text) / size,
        "word_rep_ratio": sum(c for c in grams if c > 1) / sum(grams) if grams else 0.0,
    }


def check_golden(path: Path, words: frozenset[str]) -> None:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    measures = measure([row["text"] for row in rows], make_rules(words))
    for name in METHOD_RULES:
        expected = np.array([row[name] for row in rows])
        np.testing.assert_allclose(measures[name], expected, rtol=0, atol=1e-9, err_msg=name)
    assert failed_rule(measures, BOUNDS).tolist() == [row["first_failed"] for row in rows]


def test_rules_equal_data_juicer() -> None:
    check_golden(OWN, WORDS)


@pytest.mark.skipif(not (SHARED / "golden").is_dir(), reason="the shared golden files are absent")
@pytest.mark.parametrize("name", ["cc3m_val", "parti", "mixed", "edge"])
def test_rules_equal_the_shared_golden_files(name: str) -> None:
    words = load_flagged_words(SHARED / "data" / "flagged_words_en.json")
    check_golden(SHARED / "golden" / f"{name}_rules.jsonl", words)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(any_text, repetitive_text), max_size=8))
def test_rules_equal_the_naive_definitions(texts: list[str]) -> None:
    measures = measure(texts, make_rules())
    for name, values in measures.items():
        assert values.tolist() == [naive_measures(text)[name] for text in texts]
        assert np.all((values >= 0) & (values <= 1))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(any_text, repetitive_text), max_size=4), st.integers(1, 13))
def test_any_length_of_ngrams(texts: list[str], n: int) -> None:
    measures = measure(texts, [CharRepRatio(n), WordRepRatio(n)])
    for name, values in measures.items():
        assert values.tolist() == [naive_measures(text, n=n)[name] for text in texts]


@pytest.mark.parametrize("make", [CharRepRatio, WordRepRatio])
def test_ngrams_must_be_positive(make: type[CharRepRatio]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        make(0)


def test_classes_are_pythons_own_predicates() -> None:
    every = "".join(map(chr, range(0x110000)))
    classes = classify(every)
    assert [bool(bits & 1) for bits in classes.tolist()] == [char.isalnum() for char in every]
    assert len(special_characters()) == 1618
    assert np.flatnonzero(classes & 4).tolist() == [9, 10, 32]


def test_ascii_and_other_batches_share_the_classes() -> None:
    ascii_text = "".join(map(chr, range(128)))
    assert classify(ascii_text).tolist() == classify(ascii_text + "é")[:128].tolist()


def test_only_rows_with_repeats_are_recounted() -> None:
    batch = TextBatch(["abcdefghijklmnop", "abcdefghijabcdefghij", "short", "x" * 11])
    assert rows_with_repeats(batch.code_points, batch.starts, 10) == [1, 3]


@pytest.mark.parametrize("length", [254, 255, 256, 600])
def test_the_characters_of_a_text_of_any_length_are_counted(length: int) -> None:
    batch = TextBatch(["ab", "x" * (length - 1) + "!", "", "x" * length, "!" * length])
    assert batch.share(ALNUM).tolist() == [1, (length - 1) / length, 0, 1, 0]
    assert batch.share(SPECIAL).tolist() == [0, 1 / length, 0, 0, 1]


def test_words_are_parted_by_a_separator_anywhere_between_them() -> None:
    text = "a-b c- d e -f g - h i!\tj k!!l"
    words = TextBatch([text, "next"]).words
    assert words.of(0) == ["a-b", "c", "d", "e", "f", "g", "h", "i", "j", "k!!l"]
    assert words.of(1) == ["next"]


def test_neighbouring_texts_do_not_mix() -> None:
    texts = ["porn", "nsfw", "a b c d e f g h i j", "a b c d e f g h i j", ""]
    measures = measure(texts, make_rules())
    assert measures["flagged_words_ratio"].tolist() == [1, 1, 0, 0, 0]
    assert measures["word_rep_ratio"].tolist() == [0, 0, 0, 0, 0]


def test_order_is_kept_over_many_batches() -> None:
    texts = [
        ("é" if i % 3 else "e") * (i % 40) + "!" * 10 + "z" * (i * 7919 % 50) for i in range(5000)
    ]
    values = measure(texts, make_rules())["alnum_ratio"]
    assert values.tolist() == [naive_alnum(text) for text in texts]


def naive_alnum(text: str) -> float:
    return sum(map(str.isalnum, text)) / len(text)


def test_no_text_at_all() -> None:
    assert {
        name: len(values) for name, values in measure([], make_rules()).items()
    } == dict.fromkeys(METHOD_RULES, 0)
    for rule in make_rules():
        assert rule.measure(TextBatch([])).shape == (0,)
        assert rule.measure(TextBatch([""])).tolist() == [0.0]


def test_a_huge_caption_takes_no_quadratic_time() -> None:
    texts = ["word " * 20_000, "\ud800" * 100_000, "abcdefghijk" * 9_000]
    start = time.perf_counter()
    measure(texts, make_rules())
    assert time.perf_counter() - start < 5


def test_no_flagged_words() -> None:
    assert FlaggedWordsRatio(frozenset()).measure(TextBatch(["any text"])).tolist() == [0.0]


def test_first_failure_in_the_order_of_the_bounds() -> None:
    measures = {"a": [0.5, 0.1, 0.1, 0.5], "b": [1.0, 3.0, 1.0, 2.0]}
    assert failed_rule(measures, {"a": (0.2, None), "b": (None, 2.0)}).tolist() == [
        None,
        "a",
        "a",
        None,
    ]
    assert failed_rule(measures, {"b": (None, 2.0), "a": (0.2, None)}).tolist() == [
        None,
        "b",
        "a",
        None,
    ]


def test_bounds_are_inclusive_and_what_was_not_measured_fails_none() -> None:
    measures = {"a": [0.2, 0.4, np.nan, None, np.nextafter(0.4, 1)]}
    assert failed_rule(measures, {"a": (0.2, 0.4)}).tolist() == [None, None, None, None, "a"]
    assert failed_rule(measures, {}).tolist() == [None] * 5
    assert failed_rule({}, {}).shape == (0,)
    with pytest.raises(KeyError):
        failed_rule(measures, {"b": (0.0, 1.0)})


def test_scripts_that_are_written_without_spaces() -> None:
    unspaced = (
        "\u0e01\u0eff\u0f0b\u1000\u109f\u1780\u17ff\u2e80\u3005\u3007\u3041\u30ff\u3105\u312f\u31f0"
    )
    unspaced += "\u3400\u4dbf\u4e00\u9fff\uf900\uff66\uff9f\U00020000"
    spaced = "aé \u0dff\u10a0\u1100\u1200\u177f\u1800\u3001\u3008\u3130\u4dc0\ua000\uac00\uff21"
    spaced += "\uff65\uffa0"
    assert all(classify(unspaced) & UNSPACED)
    assert not any(classify(spaced) & UNSPACED)
