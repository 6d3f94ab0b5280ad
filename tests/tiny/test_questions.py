"""Answers are what the scene shows, and are the only ones."""

from __future__ import annotations

from random import Random

import pytest

from synthvlm.tiny.questions import TOPICS, sample_question
from synthvlm.tiny.world import Scene, Thing

ONE = Scene((Thing("star", "red", 48.0, 16.0, 17.0),), "mint")
TWO = Scene(
    (Thing("circle", "blue", 17.0, 32.0, 11.0), Thing("cross", "teal", 47.0, 32.0, 11.0)), "cream"
)
ALIKE = Scene(tuple(Thing("circle", "gray", x, 32.0, 8.0) for x in (11.0, 32.0, 53.0)), "white")


@pytest.mark.parametrize(
    ("topic", "answer"),
    [
        ("colour", "red"),
        ("shape", "star"),
        ("count", "one"),
        ("size", "large"),
        ("place", "top right"),
        ("background", "mint"),
    ],
)
def test_of_one_thing(topic: str, answer: str) -> None:
    for seed in range(20):
        question = sample_question(ONE, Random(seed), topic)
        assert question is not None
        assert question.answer == answer
        assert answer not in question.text.split()[:-1] or topic == "size"


def test_relations_name_the_other_thing() -> None:
    seen = set()
    for seed in range(40):
        question = sample_question(TWO, Random(seed), "relation")
        assert question is not None
        right_of = "to the right of" in question.text
        assert right_of != ("to the left of" in question.text)
        asked_of = "circle" if right_of else "cross"
        assert asked_of in question.text
        assert question.answer == ("teal cross" if right_of else "blue circle")
        seen.add(question.text)
    assert len(seen) > 4  # worded in several ways


def test_only_what_has_one_answer_is_asked() -> None:
    for scene, never in ((ONE, {"relation"}), (TWO, {"size", "place"})):
        for topic in TOPICS:
            assert (sample_question(scene, Random(0), topic) is None) == (topic in never)
    asked = {sample_question(ALIKE, Random(seed)).topic for seed in range(60)}  # type: ignore[union-attr]
    assert asked == {"colour", "shape", "count", "background"}
    assert sample_question(ALIKE, Random(1), "count").answer == "three"  # type: ignore[union-attr]


def test_a_seed_gives_a_question() -> None:
    assert sample_question(TWO, Random(5)) == sample_question(TWO, Random(5))
