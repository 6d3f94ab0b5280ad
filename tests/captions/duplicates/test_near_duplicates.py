"""Near-duplicates against brute force, and what a hostile set of captions may cost."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peak_memory import growth
from synthvlm.captions.duplicates.minhash import FULL, Buckets
from synthvlm.captions.duplicates.near_duplicates import (
    is_similar,
    near_duplicates,
    ngram_hashes,
)
from synthvlm.captions.rules.batch import TextBatch

LETTERS = "abcdefghijklmnopqrstuvwxyz"
#: Short bands by which no two captions that are similar enough miss each other.
EXHAUSTIVE = 1 - 1e-12
#: A threshold at which captions of a few words may differ in one.
LOOSE = 0.6


def ngrams(text: str) -> set[object]:
    words = TextBatch([text]).tokens.of(0)
    return {*words, *pairwise(words)}


def similarity(one: set[object], other: set[object]) -> float:
    return len(one & other) / len(one | other)


def brute_force(texts: list[str], threshold: float) -> dict[int, int]:
    """For each dropped caption the first kept one that is similar."""
    sets = [ngrams(text) for text in texts]
    kept: list[int] = []
    twins = {}
    for position, own in enumerate(sets):
        similar = (
            other
            for other in kept
            if is_similar(len(own & sets[other]), len(own | sets[other]), threshold)
        )
        twin = next(similar, None) if own else None
        if twin is not None:
            twins[position] = twin
        elif own:
            kept.append(position)
    return twins


def made_up(rng: Random, count: int, vocabulary: int) -> list[str]:
    """Captions of 4 to 12 words, about half of them edits of an earlier one."""
    words = ["".join(rng.choices(LETTERS, k=5)) for _ in range(vocabulary)]
    rows: list[list[str]] = []
    for _ in range(count):
        row = rng.choices(words, k=rng.randint(4, 12))
        if rows and rng.random() < 0.5:
            row = list(rng.choice(rows))
            place = rng.randrange(len(row))
            row[place : place + rng.randint(0, 1)] = rng.choices(words, k=rng.randint(0, 1))
        rows.append(row or ["none"])
    rng.shuffle(rows)
    return [" ".join(row) for row in rows]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.6, 0.8, 1.0])
def test_it_is_brute_force_where_every_pair_is_compared(threshold: float) -> None:
    # Three blocks of captions, so that a twin may be in the own block or an earlier one.
    texts = made_up(Random(int(10 * threshold)), 700, 900)
    found = near_duplicates([texts], threshold=threshold, recall=EXHAUSTIVE)
    expected = brute_force(texts, threshold)
    assert found.refused == 0
    assert len(expected) > 30
    assert {twin // 256 == position // 256 for position, twin in expected.items()} == {True, False}
    assert found.twins == expected


@given(
    st.lists(st.lists(st.sampled_from("abcdef"), max_size=6).map(" ".join), max_size=40),
    st.sampled_from([0.3, 0.5, 0.6, 0.75, 1.0]),
)
@settings(max_examples=100, deadline=None)
def test_few_words_in_all_arrangements(texts: list[str], threshold: float) -> None:
    found = near_duplicates([texts], threshold=threshold, recall=EXHAUSTIVE)
    assert found.twins == brute_force(texts, threshold)


@given(st.lists(st.lists(st.text(max_size=30), max_size=12), max_size=5))
@settings(max_examples=100, deadline=None)
def test_twins_are_kept_earlier_and_similar_whatever_the_texts(parts: list[list[str]]) -> None:
    texts = [text for part in parts for text in part]
    found = near_duplicates(parts, threshold=LOOSE)
    for position, twin in found.twins.items():
        assert twin < position
        assert twin not in found.twins
        assert similarity(ngrams(texts[position]), ngrams(texts[twin])) >= LOOSE
    # Equal texts have equal signatures, so one of them stays; without a word, all do.
    stay = {text for position, text in enumerate(texts) if position not in found.twins}
    assert stay >= {text for text in texts if not ngrams(text)}
    kept = [ngrams(text) for position, text in enumerate(texts) if position not in found.twins]
    worded = [frozenset(own) for own in kept if own]
    assert len(worded) == len(set(worded))


def test_the_default_bands_find_nearly_all() -> None:
    texts = made_up(Random(5), 3000, 2000)
    found, expected = near_duplicates([texts], threshold=LOOSE).twins, brute_force(texts, LOOSE)
    assert len(expected) > 500
    # The bands promise 0.868 at the threshold, and most pairs lie above it.
    assert len(found.keys() & expected.keys()) >= 0.95 * len(expected)


def test_batches_do_not_matter() -> None:
    texts = made_up(Random(6), 600, 300)
    whole = near_duplicates([texts], threshold=LOOSE)
    assert len(whole.twins) > 100
    assert near_duplicates(([text] for text in texts), threshold=LOOSE) == whole
    assert near_duplicates([texts[:100], [], texts[100:]], threshold=LOOSE) == whole
    # A text so long that it ends the batch in which it is read.
    texts[50] = "long " * 60_000
    assert near_duplicates([texts], threshold=LOOSE, recall=EXHAUSTIVE).twins == brute_force(
        texts, LOOSE
    )


def test_a_caption_similar_to_a_dropped_one_alone_stays() -> None:
    first = "one two three four five six"
    texts = [first, first + " seven", "two three four five six seven"]
    texts += ["three four five six seven eight", "two three four five six seven eight"]
    # Shared n-grams with 0: of 1 11 of 13, of 2 9 of 13, of 3 7 of 15 (and with 2, which is
    # dropped, 9 of 13), of 4 9 of 15, just the threshold (and with 3, which comes later, 11 of 13).
    assert near_duplicates([texts], threshold=LOOSE, recall=EXHAUSTIVE).twins == brute_force(
        texts, LOOSE
    )
    assert near_duplicates([texts], threshold=LOOSE, recall=EXHAUSTIVE).twins == {1: 0, 2: 0, 4: 0}


def test_case_and_punctuation_do_not_count_but_numbers_do() -> None:
    texts = ["2 dogs run on a beach", "2 Dogs, run on a BEACH!", "3 dogs run on a beach"]
    assert near_duplicates([texts], threshold=1.0).twins == {1: 0}
    assert near_duplicates([["", "!!!", "", "\U0001f600"]], threshold=0.01).twins == {}
    assert near_duplicates([]).twins == {}


#: A caption of 80 words, as models write them.
LONG = "On the desk stands " + ", ".join(
    f"a {colour} {thing} beside the {other}"
    for colour in ("blue", "green", "yellow", "white")
    for thing, other in (("tray", "window"), ("lamp", "door"), ("vase", "mirror"))
)


@pytest.mark.parametrize(
    ("texts", "twins"),
    [
        # What a model should tell apart is no duplicate: an object, a colour, a number, a relation.
        (["a tornado of bees", "a tornado of sharks"], {}),
        (["a brown dog runs on the beach at sunset", "a brown dog runs on the beach at dawn"], {}),
        (["two red cubes on top of a blue sphere", "three red cubes on top of a blue sphere"], {}),
        (["5 cats", "6 cats"], {}),
        (["a \U0001f600 face", "a \U0001f622 face"], {}),
        (["an arrow \u2192 on a sign", "an arrow \u2190 on a sign"], {}),
        (["a temperature of -5 degrees", "a temperature of 5 degrees"], {}),
        (["5 + 3 on a board", "5 - 3 on a board", "5 3 on a board."], {2: 1}),
        (["for $5.00", "for \u20ac5.00", "C++", "C", "C#", "50% off", "50 off"], {}),
        ([LONG, LONG.replace("blue", "red", 1), LONG.upper()], {2: 0}),
        # The same caption, written otherwise.
        (["A tornado of bees.", "a tornado, of bees"], {1: 0}),
        # Scripts without spaces: a particle more is the same, another colour is not.
        (
            [
                "\u4e00\u53ea\u68d5\u8272\u7684\u72d7\u5728\u65e5\u843d\u65f6\u5206"
                "\u6cbf\u7740\u6c99\u6ee9\u5954\u8dd1",
                "\u4e00\u53ea\u68d5\u8272\u7684\u72d7\u5728\u65e5\u843d\u65f6\u5206"
                "\u6cbf\u7740\u6c99\u6ee9\u5954\u8dd1\u7740",
                "\u4e00\u53ea\u7ea2\u8272\u7684\u72d7\u5728\u65e5\u843d\u65f6\u5206"
                "\u6cbf\u7740\u6c99\u6ee9\u5954\u8dd1",
            ],
            {1: 0},
        ),
        (
            [
                "\u0e41\u0e21\u0e27\u0e2a\u0e2d\u0e07\u0e15\u0e31\u0e27",
                "\u0e41\u0e21\u0e27\u0e2a\u0e32\u0e21\u0e15\u0e31\u0e27",
            ],
            {},
        ),
    ],
)
def test_the_default_keeps_what_a_model_should_tell_apart(
    texts: list[str], twins: dict[int, int]
) -> None:
    assert near_duplicates([texts]).twins == twins


def test_ngrams_do_not_run_over_the_end_of_a_text() -> None:
    texts = ["a red kite", "", "kite", "a a a", "kite a"]
    words = TextBatch(texts).tokens
    hashes, starts = ngram_hashes(words)
    rows = [set(hashes[start:end].tolist()) for start, end in pairwise(starts)]
    assert [len(row) for row in rows] == [len(ngrams(text)) for text in texts] == [5, 0, 1, 2, 3]
    assert len(set().union(*rows)) == len(set().union(*map(ngrams, texts)))


def template(rng: Random, count: int) -> list[str]:
    """Captions that begin with the same eight words: pairwise 15 of 39 n-grams, all stay."""
    words = [a + b + c for a in LETTERS for b in LETTERS for c in LETTERS]
    start = "some small birds sit upon the old fence"
    return [" ".join([start, *rng.choices(words, k=6)]) for _ in range(count)]


def test_captions_of_one_template_cost_no_more_each_however_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[int] = []
    original = Buckets.kept_beside

    def counting(self: Buckets, captions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pairs = original(self, captions)
        compared.append(len(pairs[0]))
        return pairs

    monkeypatch.setattr(Buckets, "kept_beside", counting)
    found = near_duplicates([template(Random(0), 8192)], threshold=LOOSE)
    assert len(found.twins) < 10
    assert found.refused > 4000
    assert len(compared) == 32
    # Without full buckets the last block would be compared with four times as many as the eighth.
    assert 0 < compared[31] < 1.3 * compared[7]
    assert compared[31] < 256 * 25 * FULL


def test_near_duplicates_of_a_template_are_found_all_the_same() -> None:
    texts = template(Random(1), 3000)
    copies = [text + " again" for text in texts[::3]]
    found = near_duplicates([texts + copies], threshold=LOOSE)
    assert found.refused > 0
    dropped = sum(position >= 3000 for position in found.twins)
    assert dropped > 0.9 * len(copies)


PROGRAM = """
from random import Random
from synthvlm.captions.duplicates.near_duplicates import near_duplicates
words = ["".join(Random(n).choices("abcdefghij", k=6)) for n in range(5000)]

def run(count):
    rng = Random(0)
    parts = ([" ".join(rng.choices(words, k=9)) for _ in range(500)] for _ in range(count // 500))
    return len(near_duplicates(parts, threshold=0.6).twins)
"""


def test_memory_is_that_of_compact_arrays() -> None:
    dropped, grown = growth(PROGRAM, (500,), (60_000,))
    assert dropped == 0
    # A caption: 25 bands of 4 bytes, twice while joined, 9 words of 8, 44 more; the texts alone
    # as Python strings would take 115 bytes each.
    assert grown * 1024 < 60_000 * 600
