"""VQAScore: how likely is the answer Yes to the question whether the image shows the caption?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from synthvlm.components.component import LoadContext
from synthvlm.components.settings import Identify
from synthvlm.scorers.base import Scorer, Scores
from synthvlm.scorers.pixels import pictures
from synthvlm.scorers.verifiers import (
    Verifier,
    VerifierSettings,
    load_verifier,
    verifier_identity,
)

if TYPE_CHECKING:
    import torch

__all__ = ["DEFAULT_PROMPT", "VqaScorer", "VqaSettings"]

#: VQAScore's question.
DEFAULT_PROMPT = 'Does this figure show "{caption}"? Please answer yes or no.'


class VqaSettings(VerifierSettings):
    """VQAScore: the likelihood of "Yes" to a question that quotes the caption."""

    prompt: str | None = Field(
        None, description="The question; holds {caption} once; default: VQAScore's."
    )

    @model_validator(mode="after")
    def _check_prompt(self) -> Self:
        if self.prompt is not None and self.prompt.count("{caption}") != 1:
            raise ValueError("prompt must hold {caption} exactly once")
        return self


class VqaScorer(Scorer):
    """VQAScore: the likelihood that a model says Yes, the image shows the caption.

    0 .. 1; see ``models/yes_no.py`` for the formula and its source (Lin et al. 2024).
    """

    name: ClassVar[str] = "vqa"
    label = "VQAScore"
    about = "likelihood of the answer Yes to the question whether the image shows the caption"
    may_embed = False
    Settings = VqaSettings

    @classmethod
    def load(cls, settings: VqaSettings, context: LoadContext) -> VqaScorer:
        """Load the model, or make the client of its endpoint.

        Raises:
            ModelError: The model cannot be used.
            RecipeError: The endpoint cannot be used.
        """
        scorer = cls(load_verifier(settings, context, f"scoring.{cls.name}"), settings.prompt)
        scorer.device = "" if settings.endpoint is None else "endpoint"
        return scorer

    @classmethod
    def identity(cls, settings: VqaSettings, identify: Identify) -> object:
        """The model, where it runs, and what it is asked."""
        return verifier_identity(settings, identify), settings.prompt or DEFAULT_PROMPT

    def __init__(self, verifier: Verifier, prompt: str | None = None) -> None:
        """Ask a model.

        Args:
            verifier: The model.
            prompt: The question, with ``{caption}`` once; None is VQAScore's.
        """
        self._verifier = verifier
        # Not str.format: other braces are text.
        self._before, _, self._after = (prompt or DEFAULT_PROMPT).partition("{caption}")

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        """Score n images (uint8, shape (n, 3, height, width), RGB) against n captions: 0 .. 1."""
        import numpy as np

        questions = [self._before + caption + self._after for caption in captions]
        answers = self._verifier.say_yes(pictures(images), questions)
        return Scores(
            np.array([answer.likelihood for answer in answers], np.float64),
            problems=tuple(answer.problem for answer in answers),
        )
