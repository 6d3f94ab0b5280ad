"""Models that are asked about images, here or behind an endpoint: how likely is the answer Yes?"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import Field

from synthvlm.captions.writers.chat import about_image, data_url, deterministic
from synthvlm.components.component import LoadContext
from synthvlm.components.settings import TINY, Identify, InHash, ModelName
from synthvlm.endpoints.connection import EndpointSettings
from synthvlm.errors import ModelError
from synthvlm.models.model_files import verifier_path
from synthvlm.models.yes_no import YesAnswer
from synthvlm.scorers.base import ScorerSettings

if TYPE_CHECKING:
    from PIL.Image import Image

    from synthvlm.endpoints.client import EndpointClient, Reply
    from synthvlm.models.vlm import VisionLanguageModel

__all__ = ["Verifier", "VerifierSettings", "load_verifier", "verifier_identity"]

#: Of the first token of a reply so many alternatives are asked for: the most that servers give.
_ALTERNATIVES = 20


class VerifierSettings(ScorerSettings):
    """A model that looks at images, and where it runs."""

    model: Annotated[str, ModelName("verifier"), InHash.ALWAYS] = Field(
        TINY,
        min_length=1,
        description="Name at the endpoint, else hub id or folder of a model that answers questions "
        "about images, or `tiny`.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    endpoint: Annotated[EndpointSettings | None, InHash.NEVER] = Field(
        None, description="null: the model runs here. The endpoint must return log-probabilities."
    )
    batch_size: Annotated[int, InHash.NEVER] = Field(
        16, ge=1, description="Questions at a time of a local model."
    )


class Verifier(Protocol):
    """Says how likely Yes is."""

    def say_yes(self, images: Sequence[Image], questions: Sequence[str]) -> list[YesAnswer]:
        """How sure it is that the answer to each of n questions about an image is Yes.

        Raises:
            ModelError: It cannot be asked at all.
            SynthVLMError: A budget is used up.
        """
        ...


def load_verifier(settings: VerifierSettings, context: LoadContext, where: str) -> Verifier:
    """Load the model, or make the client of its endpoint.

    Args:
        settings: The settings.
        context: The device, and what makes clients.
        where: Path of the settings in the recipe, for messages.

    Raises:
        ModelError: The model cannot be used.
        RecipeError: The endpoint cannot be used.
    """
    if settings.endpoint is not None:
        client = context.endpoint_client(settings.endpoint, settings.model, where)
        return _EndpointVerifier(client, settings.model, where, settings.endpoint.seed)
    from synthvlm.models.vlm import VisionLanguageModel

    model = VisionLanguageModel(
        verifier_path(settings.model), device=context.device, revision=settings.revision
    )
    return _LocalVerifier(model, settings.batch_size)


def verifier_identity(settings: VerifierSettings, identify: Identify) -> object:
    """The model, and whether it runs here; not the endpoint's address."""
    if settings.endpoint is None:
        return identify(settings.model, ModelName("verifier")), settings.revision
    return "endpoint", settings.model


class _LocalVerifier:
    """A model that runs here, asked a batch of questions at a time."""

    def __init__(self, model: VisionLanguageModel, batch_size: int) -> None:
        self._model, self._batch_size = model, batch_size

    def say_yes(self, images: Sequence[Image], questions: Sequence[str]) -> list[YesAnswer]:
        size = self._batch_size
        return [
            answer
            for start in range(0, len(questions), size)
            for answer in self._model.say_yes(
                images[start : start + size], questions[start : start + size]
            )
        ]


class _EndpointVerifier:
    """A model behind an endpoint, which returns the likeliest first tokens of its reply.

    The likelihood is the sum of the probabilities of those that read as yes, stripped and in lower
    case; that is what VQAScore's authors take of models behind an API, but for "Yes" alone. The
    share is that sum over the sum of those that read as yes or no. A token that is not among those
    that the server names counts as 0. Where none of them is yes or no, the reply is no answer, and
    a problem.
    """

    def __init__(self, client: EndpointClient, model: str, where: str, seed: int | None) -> None:
        self._client, self._model, self._where = client, model, where
        alternatives = {"logprobs": True, "top_logprobs": _ALTERNATIVES}
        self._sampling = {**deterministic(1, seed), **alternatives}

    def say_yes(self, images: Sequence[Image], questions: Sequence[str]) -> list[YesAnswer]:
        # An image with many questions is encoded once.
        different = {id(image): image for image in images}
        urls = {key: _data_url(image) for key, image in different.items()}
        replies = dict(
            self._client.ask_all(
                (number, about_image(urls[id(image)], question), self._sampling)
                for number, (image, question) in enumerate(zip(images, questions, strict=True))
            )
        )
        return [self._answer(replies[number]) for number in range(len(questions))]

    def _answer(self, reply: Reply) -> YesAnswer:
        if reply.problem is not None:
            return YesAnswer.failed(reply.problem)
        if not reply.first_tokens:
            raise ModelError(
                f"{self._where}: the endpoint returns no log-probabilities of {self._model}: use a "
                f"server that returns top_logprobs, such as vLLM or llama.cpp's, or a local model: "
                f"--set {self._where}.endpoint=null --set {self._where}.model=FOLDER"
            )
        yes, no = (
            math.fsum(
                math.exp(value)
                for token, value in reply.first_tokens
                if token.strip().lower() == word
            )
            for word in ("yes", "no")
        )
        if yes + no == 0:
            said = reply.first_tokens[0][0]
            return YesAnswer.failed(f"the model answers neither yes nor no, but {said[:40]!r} ...")
        return YesAnswer(min(1.0, yes), yes / (yes + no))


def _data_url(image: Image) -> str:
    sink = io.BytesIO()
    image.save(sink, "png")
    return data_url(sink.getvalue(), "png")
