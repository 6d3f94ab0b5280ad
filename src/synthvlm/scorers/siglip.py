"""SigLIP score: how sure SigLIP is that image and caption belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from synthvlm.components.component import LoadContext
from synthvlm.components.settings import InHash, ModelName
from synthvlm.errors import ModelError
from synthvlm.models.pretrained import load_pretrained, model_config
from synthvlm.scorers.base import ScorerSettings
from synthvlm.scorers.embedding import EmbeddingScorer

if TYPE_CHECKING:
    import numpy as np

__all__ = ["SiglipScorer", "SiglipSettings"]


class SiglipSettings(ScorerSettings):
    """SigLIP or SigLIP 2: the probability that image and caption match."""

    model: Annotated[str, ModelName(), InHash.ALWAYS] = Field(
        "google/siglip2-base-patch16-224", min_length=1, description="Hub id or folder."
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")


class SiglipScorer(EmbeddingScorer):
    """The probability, by SigLIP or SigLIP 2, that image and caption belong together.

    Trained by a sigmoid loss (Zhai et al. 2023, Tschannen et al. 2025), the model itself says what
    a cosine is worth: sigmoid(scale * cosine + bias), with a scale and a bias that it learnt. That
    probability is the score. It spreads pairs over 0 .. 1, where the cosines lie close together and
    elsewhere for each model, so that a weight means the same for all of them; among the candidates
    of one caption it ranks as the cosine does.
    """

    name: ClassVar[str] = "siglip"
    label = "SigLIP score"
    about = "probability by SigLIP that image and caption belong together"
    Settings = SiglipSettings

    @classmethod
    def load(cls, settings: SiglipSettings, context: LoadContext) -> SiglipScorer:
        """Load the model.

        Raises:
            ModelError: It cannot be loaded.
        """
        return cls(settings.model, device=context.device, revision=settings.revision)

    def __init__(self, model: str, *, device: str = "cpu", revision: str | None = None) -> None:
        """Load a SigLIP model by hub id or folder: of one image size, or of any (NaFlex).

        Raises:
            ModelError: The model cannot be found, is damaged, or is no SigLIP model.
        """
        from transformers import (
            AutoTokenizer,
            Siglip2ImageProcessorPil,
            Siglip2Model,
            SiglipImageProcessorPil,
            SiglipModel,
        )

        # SigLIP 2 has the model type `siglip`, too, but for the models of any image size.
        families: dict[str, list[Any]] = {
            "siglip": [SiglipModel, AutoTokenizer, SiglipImageProcessorPil],
            "siglip2": [Siglip2Model, AutoTokenizer, Siglip2ImageProcessorPil],
        }
        kind = str(model_config("SigLIP", model, revision).get("model_type"))
        if kind not in families:
            raise ModelError(f"{model} is a model of type {kind!r}: not a SigLIP model")
        parts = load_pretrained(families[kind], "SigLIP", model, device, "float32", revision)
        super().__init__(*parts, device=device)
        self._scale: float = self._model.logit_scale.detach().exp().item()
        self._bias: float = self._model.logit_bias.item()

    def _text(self, caption: str) -> str:
        # SigLIP was trained on lower case; not all of its tokenizers see to that.
        return caption.lower()

    def _text_features(self, inputs: Any) -> Any:
        # No mask: it was trained to read the padding, and pools at its last place.
        return self._model.get_text_features(input_ids=inputs["input_ids"])

    def _values(self, cosines: np.ndarray) -> np.ndarray:
        import numpy as np

        return 1 / (1 + np.exp(-(self._scale * cosines + self._bias)))
