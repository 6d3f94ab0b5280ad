"""CLIPScore: does the image show what the caption describes?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from synthvlm.components.component import LoadContext
from synthvlm.components.settings import TINY, InHash, ModelName
from synthvlm.models.model_files import clip_path
from synthvlm.models.pretrained import load_pretrained
from synthvlm.scorers.base import Scorer, ScorerSettings, Scores

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["ClipScorer", "ClipSettings"]

#: Captions whose embeddings are kept: a caption's candidates come in batches near each other.
_KEPT_TEXTS = 256


class ClipSettings(ScorerSettings):
    """CLIPScore: cosine of the embeddings of image and prefixed caption, clipped at 0."""

    model: Annotated[str, ModelName("clip"), InHash.ALWAYS] = Field(
        TINY, min_length=1, description="A CLIP model: hub id, local folder, or `tiny`."
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    prefix: Annotated[str, InHash.ALWAYS] = Field(
        "A photo depicts ", description="What is put before each caption."
    )


class ClipScorer(Scorer):
    """Cosine of CLIP's image and text embeddings, clipped at 0, the caption prefixed.

    CLIPScore (Hessel et al. 2021) without its weight of 2.5, as SynthVLM reports it.
    """

    name: ClassVar[str] = "clip"
    label = "CLIPScore"
    about = "cosine of the CLIP embeddings of image and caption, clipped at 0"
    Settings = ClipSettings
    default = ClipSettings()

    @classmethod
    def load(cls, settings: ClipSettings, context: LoadContext) -> ClipScorer:
        """Load the CLIP model; ``tiny`` is the embedded one.

        Raises:
            ModelError: It cannot be loaded.
        """
        return cls(
            clip_path(settings.model),
            device=context.device,
            revision=settings.revision,
            prefix=settings.prefix,
        )

    def __init__(
        self,
        model: str,
        *,
        device: str = "cpu",
        revision: str | None = None,
        prefix: str = "A photo depicts ",
    ) -> None:
        """Load a CLIP model by hub id or folder.

        Raises:
            ModelError: The model cannot be found, is damaged, or is no CLIP model.
        """
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        self._model: Any
        self._tokenizer: Any
        self._processor: Any
        classes = [CLIPModel, CLIPTokenizer, CLIPImageProcessorPil]
        self._model, self._tokenizer, self._processor = load_pretrained(
            classes, "CLIP", model, device, "float32", revision
        )
        self._device = device
        self._prefix = prefix
        self._max_tokens: int = self._model.config.text_config.max_position_embeddings
        self._texts: dict[str, tuple[np.ndarray, bool]] = {}

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        """Score n images (uint8, shape (n, 3, height, width), RGB) against n captions.

        The values lie in 0 .. 1. A caption is embedded once for equal neighbours; one that is
        longer than the text tower is cut off and marked.
        """
        import numpy as np

        image_embeddings = self.embed_images(images)
        text_embeddings, truncated = self.embed_captions(captions)
        cosines = (image_embeddings.astype(np.float64) * text_embeddings).sum(axis=1)
        return Scores(np.clip(cosines, 0.0, 1.0), image_embeddings, text_embeddings, truncated)

    def embed_images(self, images: torch.Tensor) -> np.ndarray:
        """Embeddings (float32, shape (n, d), unit length) of n images as in ``score``."""
        import torch

        pixels = list(images.permute(0, 2, 3, 1).cpu().numpy())
        inputs = self._processor(images=pixels, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            return _unit(self._model.get_image_features(**inputs).pooler_output)

    def embed_captions(self, captions: Sequence[str]) -> tuple[np.ndarray, tuple[bool, ...]]:
        """Embeddings (float32, shape (n, d), unit length), and which captions were cut off."""
        import numpy as np

        unique = list(dict.fromkeys(captions))
        fresh = [caption for caption in unique if caption not in self._texts]
        new = self._embed_fresh(fresh) if fresh else {}
        for caption in unique:  # the last used come last
            self._texts[caption] = new[caption] if caption in new else self._texts.pop(caption)
        rows = [self._texts[caption] for caption in captions]
        for caption in list(self._texts)[: max(0, len(self._texts) - _KEPT_TEXTS)]:
            del self._texts[caption]
        return np.stack([vector for vector, _ in rows]), tuple(cut for _, cut in rows)

    def _embed_fresh(self, captions: list[str]) -> dict[str, tuple[np.ndarray, bool]]:
        import torch

        prompts = [self._prefix + caption for caption in captions]
        lengths = [len(ids) for ids in self._tokenizer(prompts, verbose=False)["input_ids"]]
        inputs = self._tokenizer(
            prompts,
            padding="max_length",
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        ).to(self._device)
        with torch.inference_mode():
            vectors = _unit(self._model.get_text_features(**inputs).pooler_output)
        cut = [length > self._max_tokens for length in lengths]
        return dict(zip(captions, zip(vectors, cut, strict=True), strict=True))


def _unit(features: torch.Tensor) -> np.ndarray:
    import numpy as np

    vectors = features.float()
    vectors = vectors / vectors.norm(dim=-1, keepdim=True)
    return np.asarray(vectors.cpu().numpy(), dtype=np.float32)
