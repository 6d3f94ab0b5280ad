"""HPS v2: which image would people prefer for this prompt?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from synthvlm.components.component import LoadContext
from synthvlm.components.settings import InHash, ModelName
from synthvlm.errors import ModelError
from synthvlm.models.convert_weights import read_converted
from synthvlm.models.image_transform import CLIP_MEAN, CLIP_STD, normalized
from synthvlm.models.open_clip import clip_of_open_clip, load_tokenizer, open_clip_text
from synthvlm.scorers.base import ScorerSettings
from synthvlm.scorers.embedding import EmbeddingScorer

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["HpsV2Scorer", "HpsV2Settings"]

#: Attention heads of both towers of ViT-H-14; all other sizes are those of the weights.
_HEADS = 16


class HpsV2Settings(ScorerSettings):
    """HPS v2: a CLIP model that was trained on people's choices between images."""

    model: Annotated[str, ModelName(), InHash.ALWAYS] = Field(
        "xswu/HPSv2",
        min_length=1,
        description="A file of safetensors, made of HPS_v2.1_compressed.pt (or HPS_v2_...) by "
        "`synthvlm convert-weights`.",
    )
    tokenizer: Annotated[str, ModelName(), InHash.ALWAYS] = Field(
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        min_length=1,
        description="Hub id or folder of a CLIP tokenizer.",
    )


class HpsV2Scorer(EmbeddingScorer):
    """HPS v2 (Wu et al. 2023): the cosine of its ViT-H-14's embeddings; no prefix.

    In -1 .. 1. As in its authors' code an image is resized by its longer side, and filled up to a
    square with black.
    """

    name: ClassVar[str] = "hpsv2"
    label = "HPS v2"
    about = "preference of people for the image, given the caption, by HPS v2: a cosine"
    Settings = HpsV2Settings

    @classmethod
    def load(cls, settings: HpsV2Settings, context: LoadContext) -> HpsV2Scorer:
        """Load the model.

        Raises:
            ModelError: It cannot be loaded.
        """
        return cls(settings.model, settings.tokenizer, device=context.device)

    def __init__(self, model: str, tokenizer: str, *, device: str = "cpu") -> None:
        """Load a file of weights, and the tokenizer of a hub id or folder.

        Raises:
            ModelError: One of them cannot be found, or is damaged.
        """
        published = "xswu/HPSv2 HPS_v2.1_compressed.pt"
        weights = read_converted("HPS v2", model, published, "scoring.hpsv2.model")
        settings = _settings(model, weights)
        clip = clip_of_open_clip(model, weights, settings, device)
        words = load_tokenizer(tokenizer, settings["text_cfg"]["vocab_size"])
        super().__init__(clip, words, _fitted(settings["vision_cfg"]["image_size"]), device=device)

    def _text(self, caption: str) -> str:
        return open_clip_text(caption)


def _settings(model: str, weights: Mapping[str, Any]) -> dict[str, Any]:
    """open_clip's settings of the model that some weights are of."""
    try:
        places, vision_width = weights["visual.positional_embedding"].shape
        patch = weights["visual.conv1.weight"].shape[-1]
        vocabulary, text_width = weights["token_embedding.weight"].shape
        hidden = weights["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
        return {
            "embed_dim": weights["text_projection"].shape[1],
            "vision_cfg": {
                "layers": _layers(weights, "visual.transformer"),
                "width": vision_width,
                "head_width": vision_width // _HEADS,
                "mlp_ratio": hidden / vision_width,
                "patch_size": patch,
                "image_size": patch * round((places - 1) ** 0.5),
            },
            "text_cfg": {
                "layers": _layers(weights, "transformer"),
                "width": text_width,
                "heads": _HEADS,
                "mlp_ratio": weights["transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
                / text_width,
                "context_length": weights["positional_embedding"].shape[0],
                "vocab_size": vocabulary,
            },
        }
    except (KeyError, ValueError, IndexError) as error:
        raise ModelError(f"{model} holds no weights of HPS v2: {error}") from error


def _layers(weights: Mapping[str, Any], tower: str) -> int:
    return sum(
        name.startswith(f"{tower}.resblocks.") and name.endswith(".ln_1.weight") for name in weights
    )


def _fitted(side: int) -> Any:
    """What makes a batch of images (uint8, each (height, width, 3)) what the model sees."""

    def pixel_values(images: Sequence[np.ndarray], **options: object) -> Any:
        import torch
        from transformers import BatchFeature

        squares = torch.cat([_square(torch.from_numpy(image), side) for image in images])
        return BatchFeature({"pixel_values": normalized(squares, CLIP_MEAN, CLIP_STD)})

    return pixel_values


def _square(image: torch.Tensor, side: int) -> torch.Tensor:
    """An image as floats of 0 .. 1 (shape (1, 3, side, side)), as torchvision resizes tensors."""
    from torch.nn.functional import interpolate, pad

    values = image.permute(2, 0, 1)[None].float() / 255
    scale = side / max(values.shape[2:])
    if scale == 1:
        size = tuple(values.shape[2:])
    else:
        size = tuple(round(length * scale) for length in values.shape[2:])
        values = interpolate(values, size=size, mode="bicubic", align_corners=False, antialias=True)
    above, left = (side - size[0]) // 2, (side - size[1]) // 2
    return pad(values, (left, side - size[1] - left, above, side - size[0] - above))
