"""A caption, an image to generate of it, and what became of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from synthvlm.data import candidate_seed

if TYPE_CHECKING:
    import numpy as np

__all__ = ["GenerationRequest", "Prompt", "ScoredImage"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A curated caption.

    Attributes:
        id: The caption's id.
        text: The caption.
        fingerprint: What its images depend on.
        questions: About the caption, by the names of the scorers that ask them.
        problem: Why a scorer has no questions, so that no image can be scored; or None.
    """

    id: str
    text: str
    fingerprint: str
    questions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    problem: str | None = None

    def request(self, index: int, run_seed: int) -> GenerationRequest:
        """The request for a candidate."""
        seed = candidate_seed(run_seed, self.id, index)
        return GenerationRequest(self.id, index, self.text, seed, self.questions)


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """An image to generate.

    Attributes:
        id: The caption's id.
        index: Zero-based number among the candidates of the caption.
        prompt: The caption's text.
        seed: 0 .. 2**63 - 1.
        questions: About the caption, by the names of the scorers that ask them.
    """

    id: str
    index: int
    prompt: str
    seed: int
    questions: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScoredImage:
    """What became of a request.

    Attributes:
        request: The request.
        problem: Why there is no image; the fields below are then None.
        unsafe: Why the image check rejects it; it has scores and no pixels.
        pixels: uint8, shape (height, width, 3).
        scores: The value of each scorer, by its name.
        remarks: What scorers have to say besides, by their names.
        image_embedding: float32, shape (d,), unit length, of the first scorer that embeds; None
            where none does.
        text_embedding: The same of the caption.
        truncated: Whether a scorer saw only the beginning of the caption.
        prompt_truncated: Whether the generator's text encoders did.
        reproducible: Whether prompt and seed determine the image.
    """

    request: GenerationRequest
    problem: str | None = None
    unsafe: str | None = None
    pixels: np.ndarray | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    remarks: Mapping[str, str] = field(default_factory=dict)
    image_embedding: np.ndarray | None = None
    text_embedding: np.ndarray | None = None
    truncated: bool = False
    prompt_truncated: bool = False
    reproducible: bool = True
