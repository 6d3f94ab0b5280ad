"""CLIPScore: does the picture show what the caption says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthvlm.errors import ModelError
from synthvlm.scorers.base import Scores

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["ClipScorer"]


class ClipScorer:
    """Cosine of CLIP's image and text embeddings, clipped at 0, the caption prefixed.

    CLIPScore (Hessel et al. 2021) without its weight of 2.5, as SynthVLM reports it.
    """

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
        import torch
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
        from transformers.utils import logging

        if Path(model).is_dir() and not (Path(model) / "config.json").is_file():
            raise ModelError(f"{model} holds no config.json: not a CLIP model")
        logging.disable_progress_bar()
        try:
            self._model: Any = CLIPModel.from_pretrained(
                model, revision=revision, dtype=torch.float32, use_safetensors=True
            )
            self._tokenizer: Any = CLIPTokenizer.from_pretrained(model, revision=revision)
            self._processor: Any = CLIPImageProcessorPil.from_pretrained(model, revision=revision)
        except Exception as error:
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"cannot load the CLIP model {model}: {line} "
                f"(`synthvlm doctor` checks what is reachable; weights must be safetensors)"
            ) from error
        self._model.to(device).eval()
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
        known = self._texts
        if fresh:
            known = {**known, **self._embed_fresh(fresh)}
        # Candidates of a caption are neighbours: what this batch does not use is not used again.
        self._texts = {caption: known[caption] for caption in unique}
        rows = [self._texts[caption] for caption in captions]
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
