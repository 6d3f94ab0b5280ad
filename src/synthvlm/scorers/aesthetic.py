"""Aesthetic score: how beautiful would people find this image?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from synthvlm.components.component import LoadContext
from synthvlm.components.settings import InHash, ModelName
from synthvlm.errors import ModelError
from synthvlm.models.pretrained import load_pretrained, model_file, read_safetensors
from synthvlm.models.regression_head import regression_head
from synthvlm.scorers.base import Scorer, ScorerSettings, Scores
from synthvlm.scorers.pixels import model_inputs

if TYPE_CHECKING:
    import torch

__all__ = ["AestheticScorer", "AestheticSettings"]

_KIND = "aesthetic"
#: Beginnings of the names of a head's weights: in models that hold one, and in LAION's files.
_HEADS = ("layers.", "predictor.")


class AestheticSettings(ScorerSettings):
    """LAION's aesthetic predictors: a head on the image embeddings of a CLIP model."""

    model: Annotated[str, ModelName(), InHash.ALWAYS] = Field(
        "shunk031/aesthetics-predictor-v2-sac-logos-ava1-l14-linearMSE",
        min_length=1,
        description="Hub id or folder: a predictor, or with `head` a CLIP model.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    head: Annotated[str | None, ModelName()] = Field(
        None,
        description="A head alone, for a CLIP model: a file of safetensors, made of LAION's .pth "
        "by `synthvlm convert-weights`.",
    )


class AestheticScorer(Scorer):
    """LAION's aesthetic score: a head on the unit-length CLIP embedding of the image.

    One linear layer (v1), or five (768-1024-128-64-16-1) with ReLUs between them or without (v2),
    trained on ratings of 1 .. 10 by people, in which its values therefore lie, more or less. The
    caption plays no part. In the sum of scores its weight should be small: with 0.05 a difference
    of 1 counts as much as one of 0.05 in CLIPScore.
    """

    name: ClassVar[str] = "aesthetic"
    label = "Aesthetic score (1-10)"
    about = (
        "rating of the image's looks, about 1 to 10, that LAION's predictor gives its CLIP "
        "embedding; the caption plays no part"
    )
    may_embed = False
    Settings = AestheticSettings

    @classmethod
    def load(cls, settings: AestheticSettings, context: LoadContext) -> AestheticScorer:
        """Load the model.

        Raises:
            ModelError: It cannot be loaded.
        """
        return cls(
            settings.model,
            head=settings.head,
            device=context.device,
            revision=settings.revision,
        )

    def __init__(
        self,
        model: str,
        *,
        head: str | None = None,
        device: str = "cpu",
        revision: str | None = None,
    ) -> None:
        """Load a predictor by hub id or folder; or a CLIP model, and a file with a head.

        Raises:
            ModelError: One of them cannot be found, is damaged, or is of another kind.
        """
        from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

        classes = [CLIPVisionModelWithProjection, CLIPImageProcessorPil]
        self._model, self._processor = load_pretrained(
            classes, _KIND, model, device, "float32", revision
        )
        if head is None:
            path = model_file(_KIND, model, "model.safetensors", revision)
            weights = read_safetensors(_KIND, path, only=_HEADS)
            if not weights:
                raise ModelError(
                    f"{model} holds no aesthetic head: name a predictor, or the file of a head "
                    f"(`--set scoring.aesthetic.head=HEAD.safetensors`)"
                )
        elif not head.endswith(".safetensors"):
            raise ModelError(
                f"{head} is no file of safetensors: `synthvlm convert-weights {head} "
                f"HEAD.safetensors` makes one, then `--set scoring.aesthetic.head=HEAD.safetensors`"
            )
        else:
            weights = read_safetensors(_KIND, head)
        for prefix in _HEADS:
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
        width: int = self._model.visual_projection.out_features
        self._head = regression_head(head or model, weights, width, device)
        self._device = device

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        """Score n images (uint8, shape (n, 3, height, width), RGB), whatever their captions."""
        import numpy as np
        import torch
        from torch.nn.functional import normalize

        inputs = model_inputs(self._processor, images, self._device)
        with torch.inference_mode():
            embeddings = normalize(self._model(**inputs).image_embeds.float(), dim=-1)
            values = self._head(embeddings)[:, 0].cpu().numpy()
        return Scores(values.astype(np.float64))
