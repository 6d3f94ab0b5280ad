"""What scorers have in common that embed image and caption by a model of ``transformers``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from synthvlm.models.recent import RecentValues
from synthvlm.scorers.base import Scorer, Scores
from synthvlm.scorers.pixels import model_inputs

if TYPE_CHECKING:
    import numpy as np
    import torch

#: Embeddings of captions that are kept between batches.
_KEPT_TEXTS = 256


class EmbeddingScorer(Scorer):
    """Scores by the cosine of the embeddings of image and caption.

    A subclass says what its text tower reads, if not the caption and its mask (``_text``,
    ``_text_features``), and what a cosine is worth, if not itself (``_values``).
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        processor: Any,
        *,
        device: str,
        max_tokens: int | None = None,
    ) -> None:
        """Take the parts of a loaded model.

        Args:
            model: A model with ``get_image_features`` and ``text_config``.
            tokenizer: Its tokenizer.
            processor: Its image processor.
            device: The torch device that it lies on.
            max_tokens: Tokens of a text that it reads at most; None: as many as it has places for.
        """
        self._model = model
        self._tokenizer = tokenizer
        self._processor = processor
        self._device = device
        places: int = model.config.text_config.max_position_embeddings
        self._max_tokens = places if max_tokens is None else min(places, max_tokens)
        self._texts = RecentValues(_KEPT_TEXTS, self._embed)

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        """Score n images (uint8, shape (n, 3, height, width), RGB) against n captions.

        The captions used last are not embedded again; one that is longer than the text tower is
        cut off and marked.
        """
        import numpy as np

        image_embeddings = self.embed_images(images)
        text_embeddings, truncated = self.embed_captions(captions)
        cosines = (image_embeddings.astype(np.float64) * text_embeddings).sum(axis=1)
        return Scores(self._values(cosines), image_embeddings, text_embeddings, truncated)

    def embed_images(self, images: torch.Tensor) -> np.ndarray:
        """Embeddings (float32, shape (n, d), unit length) of n images as in ``score``."""
        import torch

        inputs = model_inputs(self._processor, images, self._device)
        with torch.inference_mode():
            return _unit(self._model.get_image_features(**inputs).pooler_output)

    def embed_captions(self, captions: Sequence[str]) -> tuple[np.ndarray, tuple[bool, ...]]:
        """Embeddings (float32, shape (n, d), unit length), and which captions were cut off."""
        import numpy as np

        rows = self._texts.of(captions)
        return np.stack([vector for vector, _ in rows]), tuple(cut for _, cut in rows)

    def _embed(self, captions: list[str]) -> list[tuple[np.ndarray, bool]]:
        import torch

        texts = [self._text(caption) for caption in captions]
        # A caption is text: an "<|endoftext|>" in it must not end what is scored.
        tokenize = partial(self._tokenizer, texts, split_special_tokens=True)
        lengths = [len(ids) for ids in tokenize(verbose=False)["input_ids"]]
        inputs = tokenize(
            padding="max_length",
            padding_side="right",
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        ).to(self._device)
        with torch.inference_mode():
            vectors = _unit(self._text_features(inputs).pooler_output)
        return [
            (vector, length > self._max_tokens)
            for vector, length in zip(vectors, lengths, strict=True)
        ]

    def _text(self, caption: str) -> str:
        """What the text tower reads for a caption."""
        return caption

    def _text_features(self, inputs: Any) -> Any:
        """The output of the text tower for a batch of tokens."""
        return self._model.get_text_features(**inputs)

    def _values(self, cosines: np.ndarray) -> np.ndarray:
        """The scores (float64, shape (n,)) of cosines."""
        return cosines


def _unit(features: torch.Tensor) -> np.ndarray:
    import numpy as np

    vectors = features.float()
    vectors = vectors / vectors.norm(dim=-1, keepdim=True)
    return np.asarray(vectors.cpu().numpy(), dtype=np.float32)
