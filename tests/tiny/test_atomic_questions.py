"""The questions of a caption check all of it, and are answered by what a scene shows."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from synthvlm.tiny.atomic_questions import answers, atomic_questions
from synthvlm.tiny.captions import Claim, holds, parse, sample_claim, sample_scene
from synthvlm.tiny.world import Scene, Thing
from synthvlm.tiny.wrong_captions import edits


@pytest.mark.parametrize(
    ("caption", "questions"),
    [
        (
            "A large red star in the top left corner. The background is mint.",
            [
                "Is there a red star?",
                "Is the star red?",
                "Is the star large?",
                "Is the star in the top left?",
                "Is the background mint?",
                "Is there exactly one thing?",
            ],
        ),
        (
            "three black crosses in a row",
            ["Are there three black crosses?", "Are there exactly three things?"],
        ),
        (
            "a red star under a blue circle",
            [
                "Is there a red star?",
                "Is the star red?",
                "Is there a blue circle?",
                "Is the circle blue?",
                "Is the red star below the blue circle?",
                "Are there exactly two things?",
            ],
        ),
        (
            "a teal cross and a gray rectangle on a sky blue background",
            [
                "Is there a teal cross?",
                "Is the cross teal?",
                "Is there a gray rectangle?",
                "Is the rectangle gray?",
                "Is the background sky blue?",
                "Are there exactly two things?",
            ],
        ),
    ],
)
def test_a_caption_has_these_questions(caption: str, questions: list[str]) -> None:
    claim = parse(caption)
    assert claim is not None
    assert atomic_questions(claim) == questions


def test_all_are_answered_with_yes_where_the_caption_is_true_and_only_there() -> None:
    rng = Random(3)
    for _ in range(400):
        claim = sample_claim(rng)
        scene = sample_scene(claim, rng, 2.5)
        assert all(answers(claim, scene))
        for other in edits(claim, rng).values():
            assert all(answers(other, scene)) == holds(other, scene)


def test_of_a_malformed_thing_nothing_is_true_but_that_it_is_there() -> None:
    claim = Claim("relation", ("star", "circle"), ("red", "blue"), 2, None, None, "left", "mint")
    star, circle = Thing("star", "red", 18, 32, 11), Thing("circle", "blue", 46, 32, 11)
    shown = Scene((star, circle), "mint")
    assert answers(claim, shown) == [True] * 7
    bent = replace(shown, things=(replace(star, wobble=1.5), circle))
    assert answers(claim, bent) == [False, False, True, True, False, True, True]
    spotted = replace(shown, stain="pink")
    assert answers(claim, spotted) == [True, True, True, True, True, False, True]
    fragment = Thing("circle", "black", 32, 58, 2, wobble=0.4)
    more = replace(shown, things=(star, circle, fragment))
    assert answers(claim, more) == [True, True, True, True, True, True, False]
    none = replace(shown, things=())
    assert answers(claim, none) == [False, False, False, False, False, True, False]
