"""The rule by which a language model judges captions, on this machine or behind an endpoint."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from synthvlm.captions.model_rules.judges import (
    DEFAULT_PROMPT,
    SYSTEM_MESSAGE,
    EndpointJudge,
    LocalJudge,
)
from synthvlm.captions.rules.base import ModelRule, RuleSettings
from synthvlm.components.component import LoadContext
from synthvlm.components.settings import Identify, InHash, ModelName
from synthvlm.endpoints.connection import EndpointSettings

__all__ = ["Judge", "JudgeSettings"]


class JudgeSettings(RuleSettings):
    """Bounds on a language model's verdict: 1 is Yes, 0 is No."""

    model: Annotated[str, ModelName()] = Field(
        min_length=1, description="Name at the endpoint, else hub id or folder."
    )
    endpoint: Annotated[EndpointSettings | None, InHash.NEVER] = Field(
        None, description="null: the model runs here."
    )
    prompt: str | None = Field(None, description="Holds {caption} once; default: the built-in.")
    reply_tokens: int = Field(16, ge=1, description="Longest reply of an endpoint.")
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    batch_size: Annotated[int, InHash.NEVER] = Field(
        16, ge=1, description="Captions at a time of a local model."
    )

    @model_validator(mode="after")
    def _check_prompt(self) -> Self:
        if self.prompt is not None and self.prompt.count("{caption}") != 1:
            raise ValueError("prompt must hold {caption} exactly once")
        return self


class Judge(ModelRule):
    """Is this caption good enough to generate an image from? 0 .. 1, higher is better."""

    name: ClassVar[str] = "judge"
    label = "Judge"
    Settings = JudgeSettings

    @classmethod
    def load(cls, settings: JudgeSettings, context: LoadContext) -> ModelRule:
        """Load the model, or make the client of its endpoint.

        Raises:
            ModelError: The model cannot be used.
            RecipeError: The endpoint cannot be used.
        """
        if settings.endpoint is None:
            return LocalJudge(
                settings.model,
                prompt=settings.prompt,
                device=context.device,
                dtype=context.dtype,
                batch_size=settings.batch_size,
                revision=settings.revision,
            )
        where = f"curation.rules.{cls.name}"
        return EndpointJudge(
            context.endpoint_client(settings.endpoint, settings.model, where),
            prompt=settings.prompt,
            max_tokens=settings.reply_tokens,
            seed=settings.endpoint.seed,
        )

    @classmethod
    def identity(cls, settings: JudgeSettings, identify: Identify) -> object:
        """The model, its messages, and whether it runs here; not the endpoint's address."""
        prompt = SYSTEM_MESSAGE, settings.prompt or DEFAULT_PROMPT
        if settings.endpoint is None:
            return identify(settings.model, ModelName()), settings.revision, prompt
        return "endpoint", settings.model, prompt, settings.reply_tokens
