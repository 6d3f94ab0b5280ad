"""Questions about pictures of the closed world, and their answers of one to three words."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from synthvlm.tiny.captions import relation_of
from synthvlm.tiny.world import Scene, place_of, size_of

__all__ = ["TOPICS", "Question", "Topic", "sample_question"]

Topic = Literal["colour", "shape", "count", "size", "place", "relation", "background"]

TOPICS: Final[tuple[Topic, ...]] = (
    "colour",
    "shape",
    "count",
    "size",
    "place",
    "relation",
    "background",
)

_NUMBERS: Final = {1: "one", 2: "two", 3: "three"}
_SIDES: Final = {
    "left": "to the left of",
    "right": "to the right of",
    "above": "above",
    "below": "below",
}
_WORDINGS: Final[dict[Topic, tuple[str, ...]]] = {
    "colour": (
        "Which color does the {} have?",
        "Name the color of the {}.",
        "The {}: which color?",
    ),
    "shape": ("Which shape is {}?", "Name the shape that is {}.", "Something is {}. What is it?"),
    "count": ("How many things are there?", "Count the things.", "What number of things is shown?"),
    "size": (
        "How large is the {}?",
        "Is the {} small, medium or large?",
        "Name the size of the {}.",
    ),
    "place": ("Where is the {}?", "In which part is the {}?", "Name the place of the {}."),
    "relation": ("What is {} the {}?", "Which thing lies {} the {}?", "Name what is {} the {}."),
    "background": (
        "Which color is the background?",
        "Name the color of the background.",
        "On which color is it drawn?",
    ),
}


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its only right answer.

    Attributes:
        topic: What it asks about.
        text: The question.
        answer: In lower case, without an article or a full stop.
    """

    topic: Topic
    text: str
    answer: str


def sample_question(scene: Scene, rng: Random, topic: Topic | None = None) -> Question | None:
    """A random question about a scene of proper things.

    Args:
        scene: What is asked about.
        rng: Source of randomness.
        topic: What to ask about; None: anything that can be asked.

    Returns:
        None if the topic cannot be asked about in this scene: size and place are asked of a
        single thing, relations between two different ones.
    """
    possible = _topics(scene)
    if topic is not None and topic not in possible:
        return None
    asked: Topic = rng.choice(possible) if topic is None else topic
    wording = rng.choice(_WORDINGS[asked])
    thing = rng.choice(scene.things)
    alike = len({(t.shape, t.colour) for t in scene.things}) == 1
    noun = thing.shape if alike else rng.choice((thing.shape, f"{thing.colour} {thing.shape}"))
    if asked == "colour":
        return Question(asked, wording.format(thing.shape), thing.colour)
    if asked == "shape":
        return Question(asked, wording.format(thing.colour), thing.shape)
    if asked == "count":
        return Question(asked, wording, _NUMBERS[len(scene.things)])
    if asked == "size":
        return Question(asked, wording.format(noun), size_of(thing.radius))
    if asked == "place":
        return Question(asked, wording.format(noun), place_of(thing.x, thing.y))
    if asked == "background":
        return Question(asked, wording, scene.background)
    (other,) = (t for t in scene.things if t is not thing)
    side = _SIDES[relation_of(other.x, other.y, thing.x, thing.y)]
    return Question(asked, wording.format(side, noun), f"{other.colour} {other.shape}")


def _topics(scene: Scene) -> tuple[Topic, ...]:
    kinds = {(t.shape, t.colour) for t in scene.things}
    if len(scene.things) == 1:
        return ("colour", "shape", "count", "size", "place", "background")
    if len(scene.things) == 2 and len(kinds) == 2:
        return ("colour", "shape", "count", "relation", "background")
    return ("colour", "shape", "count", "background")
