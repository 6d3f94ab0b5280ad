"""Texts that teach a small language model to read its context.

A frozen language model can only be shown pictures (stage 1 of LLaVA's recipe) if it reads what
stands before the text. So most rows tell of a scene first, in one of three ways, and then say
something that follows from it: a caption, or an answer in LLaVA's conversation format. No row
holds a picture.
"""

from __future__ import annotations

from random import Random
from typing import Final

from synthvlm.tiny.captions import Claim, is_held_out, phrase, sample_claim, sample_scene
from synthvlm.tiny.questions import sample_question
from synthvlm.tiny.world import (
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    place_of,
    size_of,
)
from synthvlm.tiny.wrong_captions import NOISES, noisy_caption

__all__ = ["SYSTEM", "Row", "context", "facts", "grid", "sample_row"]

#: Vicuna's system prompt, with which LLaVA-1.5's conversations begin.
SYSTEM: Final = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)

#: Pieces of a row, and whether they are learned.
Row = list[tuple[str, bool]]

_WORDS = (*SHAPES, *COLOURS, *" ".join((*PLACES, *SIZES, *BACKGROUNDS)).split())
_CENTRES = tuple(range(4, 64, 8))  # of the cells, pixels


def sample_row(
    rng: Random, *, held_out: bool = False, kind: str | None = None, short: float = 0.0
) -> Row:
    """A row of training text.

    Args:
        rng: Source of randomness.
        held_out: Whether its claim is one that no model is trained on, or never such a one.
        kind: "copy" (words, twice), "text" (no context), "caption" or "answer"; None: as in
            training.
        short: Share of rows without grids and system prompts, with which training begins.
    """
    claim = sample_claim(rng)
    while is_held_out(claim) != held_out:
        claim = sample_claim(rng)
    scene = sample_scene(claim, rng, rng.choice((1.0, 2.5)))
    kinds = ("copy", "text", "caption", "answer")
    kind = kind or rng.choices(kinds, (0.1 + 0.2 * short, 0.05, 0.35, 0.5))[0]
    if kind == "copy":
        words = " " + " ".join(rng.choices(_WORDS, k=rng.randint(3, 16)))
        return [(words + " =", False), (words + "\n", True)]
    if kind == "text":
        noise = rng.choice((*NOISES, None, None, None))
        text = phrase(claim, rng) if noise is None else noisy_caption(claim, scene, noise, rng)
        return [(text + "\n", True)]
    is_short = rng.random() < short
    told = facts(scene, rng) if is_short else context(claim, scene, rng)
    if kind == "caption":
        return [(told, False), (phrase(claim, rng) + "\n", True)]
    row: Row = [("USER: " if is_short else f"{SYSTEM} USER: ", False), (told, False)]
    for turn in range(rng.choice((1, 2, 3))):
        question = sample_question(scene, rng)
        assert question is not None  # without a topic there is always one
        before = "\n" if turn == 0 else "USER: "
        row += [(f"{before}{question.text} ASSISTANT:", False), (f" {question.answer}</s>", True)]
    return row


def context(claim: Claim, scene: Scene, rng: Random) -> str:
    """Tell of a scene: a grid of words, a list of facts, or another wording of the claim."""
    how = rng.choices(("grid", "facts", "wording"), (0.6, 0.25, 0.15))[0]
    if how == "grid":
        return grid(scene, rng)
    listed = facts(scene, rng)
    if how == "facts":
        return listed
    # The wording alone may leave open what is asked.
    return f"{phrase(claim, rng)} {listed}"


def grid(scene: Scene, rng: Random) -> str:
    """8 by 8 cells, row by row; each says one word of what is in it: colour or shape."""
    cells: list[Thing | None] = []
    for y in _CENTRES:
        for x in _CENTRES:
            inside = (t for t in scene.things if max(abs(t.x - x), abs(t.y - y)) < t.radius)
            cells.append(next(inside, None))
    words = []
    for cell in cells:
        if cell is None:
            words.append(rng.choice(scene.background.split()))
        else:
            words.append(rng.choice((cell.colour, cell.shape)))
    return " " + " ".join(words)


def facts(scene: Scene, rng: Random) -> str:
    """A list of what is in a scene, in random order."""
    parts = [rng.choice((f"on {scene.background}", f"background {scene.background}"))]
    for thing in scene.things:
        words = [thing.colour, thing.shape, place_of(thing.x, thing.y), size_of(thing.radius)]
        rng.shuffle(words)
        parts.append(" ".join(words))
    rng.shuffle(parts)
    return "; ".join(parts)
