"""PickScore: which image would people prefer for this prompt?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from synthvlm.components.component import LoadContext
from synthvlm.components.settings import InHash, ModelName
from synthvlm.models.pretrained import load_pretrained, load_processors
from synthvlm.scorers.base import ScorerSettings
from synthvlm.scorers.embedding import EmbeddingScorer

if TYPE_CHECKING:
    import numpy as np

__all__ = ["PickScoreScorer", "PickScoreSettings"]


class PickScoreSettings(ScorerSettings):
    """PickScore: a CLIP model that was trained on people's choices between images."""

    model: Annotated[str, ModelName(), InHash.ALWAYS] = Field(
        "yuvalkirstain/PickScore_v1", min_length=1, description="Hub id or folder."
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    processor: Annotated[str, ModelName(), InHash.ALWAYS] = Field(
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        min_length=1,
        description="Hub id or folder of the tokenizer and image processor.",
    )


class PickScoreScorer(EmbeddingScorer):
    """PickScore (Kirstain et al. 2023): scale * cosine of CLIP-H's embeddings; no prefix.

    The scale is the model's own, which CLIP bounds by 100: in -100 .. 100. A difference of 1 means
    odds of e to 1 that people prefer the better image. A weight of 0.01 makes it as large as a
    CLIPScore.
    """

    name: ClassVar[str] = "pickscore"
    label = "PickScore"
    about = (
        "preference of people for the image, given the caption, by PickScore: a cosine times the "
        "model's scale, which is at most 100"
    )
    Settings = PickScoreSettings

    @classmethod
    def load(cls, settings: PickScoreSettings, context: LoadContext) -> PickScoreScorer:
        """Load the model.

        Raises:
            ModelError: It cannot be loaded.
        """
        return cls(
            settings.model,
            settings.processor,
            device=context.device,
            revision=settings.revision,
        )

    def __init__(
        self, model: str, processor: str, *, device: str = "cpu", revision: str | None = None
    ) -> None:
        """Load a CLIP model, and tokenizer and image processor, by hub ids or folders.

        Raises:
            ModelError: One of them cannot be found, or is damaged.
        """
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        (clip,) = load_pretrained([CLIPModel], "PickScore", model, device, "float32", revision)
        others = load_processors([CLIPTokenizer, CLIPImageProcessorPil], "PickScore", processor)
        super().__init__(clip, *others, device=device)
        self._scale: float = self._model.logit_scale.detach().exp().item()

    def _values(self, cosines: np.ndarray) -> np.ndarray:
        return self._scale * cosines
