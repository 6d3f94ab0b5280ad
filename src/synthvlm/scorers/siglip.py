"""SigLIP score: how sure SigLIP is that image and caption belong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from synthvlm.components.component import LoadContext
from synthvlm.components.settings import InHash, ModelName
from synthvlm.errors import ModelError
from synthvlm.models.pretrained import load_pretrained, model_config
from synthvlm.scorers.base import Scorer, ScorerSettings, Scores

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["SiglipScorer", "SiglipSettings"]


class SiglipSettings(ScorerSettings):
    """SigLIP or SigLIP 2: the probability that image and caption match."""

    model: Annotated[str, ModelName(), InHash.ALWAYS] = Field(
        "google/siglip2-base-patch16-224", min_length=1, description="Hub id or folder."
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")


class SiglipScorer(Scorer):
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
        self._model: Any
        self._tokenizer: Any
        self._processor: Any
        self._model, self._tokenizer, self._processor = load_pretrained(
            families[kind], "SigLIP", model, device, "float32", revision
        )
        self._device = device
        self._max_tokens: int = self._model.config.text_config.max_position_embeddings
        self._scale: float = self._model.logit_scale.detach().exp().item()
        self._bias: float = self._model.logit_bias.item()

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        """Score n images (uint8, shape (n, 3, height, width), RGB) against n captions.

        The values lie in 0 .. 1. A caption that is longer than the text tower is cut off and
        marked.
        """
        import numpy as np

        image_embeddings = self._embed_images(images)
        text_embeddings, truncated = self._embed_captions(captions)
        cosines = (image_embeddings.astype(np.float64) * text_embeddings).sum(axis=1)
        values = 1 / (1 + np.exp(-(self._scale * cosines + self._bias)))
        return Scores(values, image_embeddings, text_embeddings, truncated)

    def _embed_images(self, images: torch.Tensor) -> np.ndarray:
        import torch

        pixels = list(images.permute(0, 2, 3, 1).cpu().numpy())
        inputs = self._processor(images=pixels, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            return _unit(self._model.get_image_features(**inputs).pooler_output)

    def _embed_captions(self, captions: Sequence[str]) -> tuple[np.ndarray, tuple[bool, ...]]:
        """Embeddings, and which captions were cut off; equal captions are embedded once."""
        import torch

        places = {caption: n for n, caption in enumerate(dict.fromkeys(captions))}
        # SigLIP was trained on lower case; not all of its tokenizers see to that.
        texts = [caption.lower() for caption in places]
        lengths = [len(ids) for ids in self._tokenizer(texts, verbose=False)["input_ids"]]
        inputs = self._tokenizer(
            texts,
            padding="max_length",
            padding_side="right",
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        ).to(self._device)
        with torch.inference_mode():
            # No mask: it was trained to read the padding, and pools at its last place.
            output = self._model.get_text_features(input_ids=inputs["input_ids"])
        rows = [places[caption] for caption in captions]
        cut = tuple(lengths[row] > self._max_tokens for row in rows)
        return _unit(output.pooler_output)[rows], cut


def _unit(features: torch.Tensor) -> np.ndarray:
    import numpy as np

    vectors = features.float()
    vectors = vectors / vectors.norm(dim=-1, keepdim=True)
    return np.asarray(vectors.cpu().numpy(), dtype=np.float32)
