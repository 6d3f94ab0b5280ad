"""What the verifier is asked about the pictures of its training, and what it is to write."""

from __future__ import annotations

from random import Random

from experiments.tiny_models.clip_claims import trainable_claim, wrong_claims
from experiments.tiny_models.language_rows import facts
from experiments.tiny_models.verifier_pictures import Pictures, claim_and_scene
from synthvlm.scorers.vqa import DEFAULT_PROMPT
from synthvlm.tiny.atomic_questions import answers, atomic_questions
from synthvlm.tiny.captions import Claim, holds, phrase
from synthvlm.tiny.world import Scene

__all__ = ["Asked", "draw_questions", "draw_told", "draw_writings"]

#: Questions and their answers.
Asked = list[tuple[str, str]]


def draw_questions(pictures: Pictures, atomic: int, rng: Random) -> list[Asked]:
    """Questions about each picture, at least one.

    Args:
        pictures: The pictures.
        atomic: Questions about single facts, at most, of a picture whose scene is known.
        rng: Source of randomness.
    """
    known = zip(pictures.claims, pictures.scenes, pictures.faulty, strict=True)
    return [_asked(claim, scene, faulty, atomic, rng) for claim, scene, faulty in known]


def draw_told(count: int, atomic: int, rng: Random) -> tuple[list[str], list[Asked]]:
    """Pictures told in a few words, as the language model knows it, and questions about them."""
    texts, asked = [], []
    for _ in range(count):
        claim, scene = claim_and_scene(rng)
        texts.append(facts(scene, rng))
        asked.append(_asked(claim, scene, False, atomic, rng))
    return texts, asked


def draw_writings(count: int, rng: Random) -> list[tuple[str, str]]:
    """Captions, and the questions that check them, one per line."""
    claims = [trainable_claim(rng) for _ in range(count)]
    return [(phrase(claim, rng), "\n".join(atomic_questions(claim))) for claim in claims]


def _asked(claim: Claim, scene: Scene | None, faulty: bool, atomic: int, rng: Random) -> Asked:
    if scene is None:  # something is malformed, so no caption is true of it
        return [_about(claim, False, rng)]
    near = wrong_claims(claim, scene, rng, 2)
    asked = [_about(claim, not faulty and holds(claim, scene), rng), _about(near[0], False, rng)]
    own = list(zip(atomic_questions(claim), answers(claim, scene), strict=True))
    other = list(zip(atomic_questions(near[1]), answers(near[1], scene), strict=True))
    wrong = [pair for pair in own + other if not pair[1]]
    right = [pair for pair in own if pair[1]]
    rng.shuffle(wrong)
    rng.shuffle(right)
    half = atomic // 2
    return asked + [(question, _said(yes)) for question, yes in wrong[:half] + right[:half]]


def _said(yes: bool) -> str:
    return "Yes" if yes else "No"


def _about(claim: Claim, true: bool, rng: Random) -> tuple[str, str]:
    return DEFAULT_PROMPT.format(caption=phrase(claim, rng)), _said(true)
