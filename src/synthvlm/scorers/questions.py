"""Question verification: how many yes-or-no questions about the caption does the image answer Yes?

In the manner of TIFA (Hu et al. 2023) and DSG (Cho et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field, model_validator

from synthvlm.components.component import LoadContext
from synthvlm.components.settings import TINY, Identify, InHash, ModelName, Settings
from synthvlm.endpoints.connection import EndpointSettings
from synthvlm.models.model_files import verifier_path
from synthvlm.scorers.base import QuestionScorer, Scores
from synthvlm.scorers.pixels import pictures
from synthvlm.scorers.verifiers import (
    Verifier,
    VerifierSettings,
    load_verifier,
    verifier_identity,
)

if TYPE_CHECKING:
    import torch

    from synthvlm.captions.writers.questions import QuestionWriter
    from synthvlm.models.yes_no import YesAnswer

__all__ = ["QuestionSettings", "QuestionVerification", "QuestionWriterSettings"]

#: What the model that answers is asked; the embedded one is trained on questions alone.
_ASKED = "{question} Please answer yes or no."
_PLACE = "{question}"


class QuestionWriterSettings(Settings):
    """The language model that writes the questions of a caption, once."""

    model: Annotated[str, ModelName("verifier"), InHash.ALWAYS] = Field(
        TINY,
        min_length=1,
        description="Name at the endpoint, else hub id or folder of a language model, with or "
        "without eyes, or `tiny`.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    endpoint: Annotated[EndpointSettings | None, InHash.NEVER] = Field(
        None, description="null: the model runs here."
    )
    prompt: str | None = Field(None, description="Holds {caption} once; default: the built-in.")
    reply_tokens: int = Field(512, ge=1, description="Longest reply.")
    batch_size: Annotated[int, InHash.NEVER] = Field(
        16, ge=1, description="Captions at a time of a local model."
    )

    @model_validator(mode="after")
    def _check_prompt(self) -> Self:
        if self.prompt is not None and self.prompt.count("{caption}") != 1:
            raise ValueError("prompt must hold {caption} exactly once")
        return self


class QuestionSettings(VerifierSettings):
    """Share of yes-or-no questions about the caption that the image answers by yes."""

    writer: QuestionWriterSettings | None = Field(
        None, description="null: the model that answers writes the questions, too."
    )

    @property
    def question_writer(self) -> QuestionWriterSettings:
        """The settings of what writes the questions."""
        if self.writer is not None:
            return self.writer
        same = ("model", "revision", "endpoint", "batch_size")
        return QuestionWriterSettings(**{name: getattr(self, name) for name in same})


class QuestionVerification(QuestionScorer):
    """Share of the questions about a caption that a model, shown the image, answers by yes.

    0 .. 1. An answer is yes where p(Yes) / (p(Yes) + p(No)) is above 0.5. All questions are those
    whose answer is yes if the image shows the caption, so that this is TIFA's share of right
    answers, and DSG's without dependencies: a question about a thing that is not there is asked as
    all others are. The remark of a pair is the questions that were not answered by yes, one a line.
    """

    name: ClassVar[str] = "questions"
    label = "Question score"
    about = "share of yes-or-no questions about the caption that a model answers by yes"
    has_remarks = True
    may_embed = False
    Settings = QuestionSettings

    @classmethod
    def load(cls, settings: QuestionSettings, context: LoadContext) -> QuestionVerification:
        """Load the model that answers, or make the client of its endpoint.

        Raises:
            ModelError: The model cannot be used.
            RecipeError: The endpoint cannot be used.
        """
        verifier = load_verifier(settings, context, f"scoring.{cls.name}")
        scorer = cls(verifier, _asked(settings))
        scorer.device = "" if settings.endpoint is None else "endpoint"
        return scorer

    @classmethod
    def load_writer(cls, settings: QuestionSettings, context: LoadContext) -> QuestionWriter:
        """Load the model that writes, or make the client of its endpoint.

        Raises:
            ModelError: The model cannot be used.
            RecipeError: The endpoint cannot be used.
        """
        from synthvlm.captions.writers.chat import LocalChatModel, TextModel
        from synthvlm.captions.writers.questions import QuestionWriter
        from synthvlm.models.language import LanguageModel
        from synthvlm.models.vlm import VisionLanguageModel, answers_about_images

        own, where = settings.question_writer, f"scoring.{cls.name}"
        if own.endpoint is not None:
            where += "" if settings.writer is None else ".writer"
            return QuestionWriter(
                context.endpoint_client(own.endpoint, own.model, where),
                prompt=own.prompt,
                max_tokens=own.reply_tokens,
                seed=own.endpoint.seed,
            )
        path, device, revision = verifier_path(own.model), context.device, own.revision
        model: TextModel
        if answers_about_images(path, revision):
            model = VisionLanguageModel(path, device=device, revision=revision)
        else:
            model = LanguageModel(path, device=device, dtype=context.dtype, revision=revision)
        return QuestionWriter(
            LocalChatModel(model, own.batch_size),
            prompt=own.prompt,
            max_tokens=own.reply_tokens,
            is_trained=_is_trained(own),
        )

    @classmethod
    def identity(cls, settings: QuestionSettings, identify: Identify) -> object:
        """The model that answers, what it is asked, and what the questions depend on."""
        asked = _asked(settings)
        writer = cls.writer_identity(settings, identify)
        return verifier_identity(settings, identify), asked, writer

    @classmethod
    def writer_identity(cls, settings: QuestionSettings, identify: Identify) -> object:
        """The model that writes, where it runs, and what it is asked."""
        from synthvlm.captions.writers.questions import TRAINED_PROMPT, question_request

        own = settings.question_writer
        prompt = TRAINED_PROMPT if _is_trained(own) else question_request(own.prompt)
        if own.endpoint is not None:
            return "endpoint", own.model, prompt, own.reply_tokens
        return identify(own.model, ModelName("verifier")), own.revision, prompt, own.reply_tokens

    def __init__(self, verifier: Verifier, asked: str = _ASKED) -> None:
        """Ask a model.

        Args:
            verifier: The model that answers.
            asked: What it is asked, with ``{question}`` once.
        """
        self._verifier = verifier
        self._before, _, self._after = asked.partition(_PLACE)

    def score_answers(self, images: torch.Tensor, questions: Sequence[Sequence[str]]) -> Scores:
        """Score n images (uint8, shape (n, 3, height, width), RGB): 0 .. 1.

        Args:
            images: The images.
            questions: Those about the caption of each image, at least one.
        """
        import numpy as np

        shown = [
            (image, question)
            for image, own in zip(pictures(images), questions, strict=True)
            for question in own
        ]
        answers = iter(
            self._verifier.say_yes(
                [image for image, _ in shown],
                [self._before + question + self._after for _, question in shown],
            )
        )
        judged = [_judged([(question, next(answers)) for question in own]) for own in questions]
        values, remarks, problems = zip(*judged, strict=True) if judged else ((), (), ())
        return Scores(np.array(values, np.float64), remarks=remarks, problems=problems)


def _judged(
    answers: Sequence[tuple[str, YesAnswer]],
) -> tuple[float, str | None, str | None]:
    """The share of yes, the questions that were not answered so, and why there is no share."""
    problem = next((answer.problem for _, answer in answers if answer.problem), None)
    if problem is not None or not answers:
        return float("nan"), None, problem or "there are no questions about the caption"
    failed = [question for question, answer in answers if not answer.share > 0.5]
    return 1 - len(failed) / len(answers), "\n".join(failed) or None, None


def _is_trained(writer: QuestionWriterSettings) -> bool:
    """Whether the model was trained to write questions, and knows one wording."""
    return writer.model == TINY and writer.endpoint is None and writer.prompt is None


def _asked(settings: QuestionSettings) -> str:
    is_embedded = settings.model == TINY and settings.endpoint is None
    return _PLACE if is_embedded else _ASKED
