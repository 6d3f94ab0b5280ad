"""ImageReward: which image would people prefer for this prompt?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from synthvlm.components.component import LoadContext
from synthvlm.components.settings import InHash, ModelName
from synthvlm.errors import ModelError
from synthvlm.models.convert_weights import read_converted
from synthvlm.models.image_transform import ImageTransform
from synthvlm.models.pretrained import load_processors, load_weights
from synthvlm.models.regression_head import regression_head
from synthvlm.scorers.base import Scorer, ScorerSettings, Scores
from synthvlm.scorers.pixels import model_inputs

if TYPE_CHECKING:
    import torch

__all__ = ["ImageRewardScorer", "ImageRewardSettings"]

_KIND = "ImageReward"
#: Mean and standard deviation of the rewards of its training set, from its authors' code.
_MEAN, _STD = 0.16717362830052426, 1.0333394966054072
#: Tokens of a caption that it reads.
_MAX_TOKENS = 35
#: Width of an attention head, in both towers.
_HEAD_WIDTH = 64
#: Names of the vision tower's weights here and in ``transformers``.
_NAMES = (
    (r"^blocks\.", "encoder.layers."),
    (r"^norm\.", "post_layernorm."),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"\.attn\.proj\.", ".self_attn.projection."),
    (r"\.attn\.", ".self_attn."),
    (r"\.norm([12])\.", r".layer_norm\1."),
)


class ImageRewardSettings(ScorerSettings):
    """ImageReward: a BLIP model that was trained on people's rankings of images."""

    model: Annotated[str, ModelName(), InHash.ALWAYS] = Field(
        "THUDM/ImageReward",
        min_length=1,
        description="A file of safetensors, made of ImageReward.pt by `synthvlm convert-weights`.",
    )
    tokenizer: Annotated[str, ModelName(), InHash.ALWAYS] = Field(
        "google-bert/bert-base-uncased",
        min_length=1,
        description="Hub id or folder of BERT's tokenizer.",
    )


class ImageRewardScorer(Scorer):
    """ImageReward (Xu et al. 2023): the reward that BLIP, with a head of five layers, gives a pair.

    (reward - mean) / deviation over its training set, as its authors compute it: 0 is average, and
    there is no bound. A caption is read together with each image, so that nothing is embedded once
    for all of them; it is cut off after 35 tokens.
    """

    name: ClassVar[str] = "imagereward"
    label = "ImageReward"
    about = (
        "preference of people for the image, given the caption, by ImageReward: 0 is the average "
        "of its training set, 1 a standard deviation above"
    )
    may_embed = False
    Settings = ImageRewardSettings

    @classmethod
    def load(cls, settings: ImageRewardSettings, context: LoadContext) -> ImageRewardScorer:
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
        from transformers import BertTokenizer

        published = "THUDM/ImageReward ImageReward.pt"
        weights = read_converted(_KIND, model, published, "scoring.imagereward.model")
        self._device = device
        try:
            self._vision, self._text = _towers(model, weights, device)
        except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
            raise ModelError(f"{model} holds no weights of ImageReward: {error}") from error
        self._head = regression_head(
            model, _part(weights, "mlp.layers."), self._text.config.hidden_size, device
        )
        self._transform = ImageTransform(self._vision.config.image_size)
        (self._tokenizer,) = load_processors([BertTokenizer], _KIND, tokenizer)
        places: int = self._text.config.vocab_size
        if len(self._tokenizer) > places:
            raise ModelError(
                f"the tokenizer of {tokenizer} has more tokens than {model} ({places}): set "
                f"`tokenizer` to one like google-bert/bert-base-uncased"
            )

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        """Score n images (uint8, shape (n, 3, height, width), RGB) against n captions."""
        import numpy as np
        import torch

        # A caption is text: a "[SEP]" in it must not end what is scored.
        lengths = [len(ids) for ids in self._tokens(captions, verbose=False)["input_ids"]]
        tokens = self._tokens(
            captions,
            padding="max_length",
            truncation=True,
            max_length=_MAX_TOKENS,
            return_tensors="pt",
        ).to(self._device)
        inputs = model_inputs(self._transform, images, self._device)
        with torch.inference_mode():
            seen = self._vision(**inputs).last_hidden_state
            read = self._text(
                input_ids=tokens["input_ids"],
                attention_mask=tokens["attention_mask"],
                encoder_hidden_states=seen,
                encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long).to(seen.device),
            ).last_hidden_state
            rewards = self._head(read[:, 0].float())[:, 0].cpu().numpy().astype(np.float64)
        return Scores(
            (rewards - _MEAN) / _STD, truncated=tuple(length > _MAX_TOKENS for length in lengths)
        )

    def _tokens(self, captions: Sequence[str], **options: Any) -> Any:
        return self._tokenizer(list(captions), split_special_tokens=True, **options)


def _towers(model: str, weights: Mapping[str, Any], device: str) -> tuple[Any, Any]:
    """BLIP's vision tower, and its text tower that attends to it."""
    from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

    seen = {_renamed(n): tensor for n, tensor in _part(weights, "blip.visual_encoder.").items()}
    read = _part(weights, "blip.text_encoder.")
    read.pop("embeddings.position_ids", None)
    patches = seen["embeddings.patch_embedding.weight"]
    places = seen["embeddings.position_embedding"].shape[1]
    width, patch = patches.shape[0], patches.shape[-1]
    vision = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=seen["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=_layers(seen, "encoder.layers."),
        num_attention_heads=width // _HEAD_WIDTH,
        image_size=patch * round((places - 1) ** 0.5),
        patch_size=patch,
        layer_norm_eps=1e-6,
    )
    vocabulary, text_width = read["embeddings.word_embeddings.weight"].shape
    text = BlipTextConfig(
        vocab_size=vocabulary,
        hidden_size=text_width,
        encoder_hidden_size=width,
        intermediate_size=read["encoder.layer.0.intermediate.dense.weight"].shape[0],
        num_hidden_layers=_layers(read, "encoder.layer."),
        num_attention_heads=text_width // _HEAD_WIDTH,
        max_position_embeddings=read["embeddings.position_embeddings.weight"].shape[0],
        bos_token_id=None,
        sep_token_id=None,
    )
    return (
        load_weights(BlipVisionModel, vision, seen, _KIND, model, device),
        load_weights(_without_pooler(BlipTextModel), text, read, _KIND, model, device),
    )


def _without_pooler(text_model: Any) -> Any:
    class TextModel(text_model):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config, add_pooling_layer=False)

    return TextModel


def _part(weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The weights whose names begin so, without that beginning."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix)
    }


def _layers(weights: Mapping[str, Any], prefix: str) -> int:
    numbers = (name.removeprefix(prefix).split(".")[0] for name in weights if prefix in name)
    return 1 + max(map(int, numbers))


def _renamed(name: str) -> str:
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name
