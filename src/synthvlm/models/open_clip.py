"""CLIP models of open_clip, as models of ``transformers``.

open_clip itself needs torchvision, which this package does without. Its models with two plain
transformers are the same as CLIP of ``transformers`` under other names, as that library's own
conversion script has it. Others (ResNets, towers of timm or of a language model, CoCa, ...) are
refused with the reason.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from typing import Any

from synthvlm.errors import ModelError
from synthvlm.models.image_transform import CLIP_MEAN, CLIP_STD, ImageTransform
from synthvlm.models.pretrained import (
    cannot_load,
    load_processors,
    load_weights,
    model_file,
    read_safetensors,
)

__all__ = [
    "OPEN_CLIP_CONFIG",
    "clip_of_open_clip",
    "load_open_clip",
    "load_tokenizer",
    "open_clip_text",
]

OPEN_CLIP_CONFIG = "open_clip_config.json"
_WEIGHTS = "open_clip_model.safetensors"
_KIND = "open_clip"

#: What a configuration may say of a model, of both towers, and of each.
_MODEL = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
_TOWER = {"layers", "width", "mlp_ratio"}
_VISION = _TOWER | {"head_width", "patch_size", "image_size"}
_TEXT = _TOWER | {"heads", "context_length", "vocab_size"}
#: Further settings with which a tower is still a plain transformer, beside all that are off.
_PLAIN = {
    "pool_type": ("tok", "argmax"),
    "pos_embed_type": ("learnable",),
    "proj_type": ("linear",),
    "block_type": ("default",),
}
#: Settings that change nothing of an embedding: how weights begin, and what training does.
_WITHOUT_EFFECT = re.compile(
    r"init_logit_(scale|bias)|nonscalar_logit_scale|custom_text|patch_dropout|output_tokens|"
    r"attn_pooler_(queries|heads)|timm_(?!model_name)\w+|hf_(?!model_name)\w+|tokenizer_\w+|"
    r"pad_id|eos_id"
)
#: Names of weights here and in ``transformers``.
_NAMES = (
    (r"^text\.", ""),
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.proj$", "visual_projection.weight"),
    (r"^visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"^text_projection$", "text_projection.weight"),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.attn\.", ".self_attn."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
#: Stored beside the weights by some versions; no part of an embedding.
_NO_WEIGHTS = {"logit_bias", "attn_mask"}


def load_open_clip(
    model: str, device: str, revision: str | None = None, tokenizer: str | None = None
) -> list[Any]:
    """A CLIP model of ``transformers``, its tokenizer and its image processor.

    Args:
        model: A folder or hub id with open_clip_config.json and open_clip_model.safetensors.
        device: A torch device.
        revision: Branch, tag or commit on the hub.
        tokenizer: Folder or hub id of the tokenizer; None: the model's own.

    Raises:
        ModelError: It cannot be loaded, or is of another kind than CLIP's.
    """
    path = model_file(_KIND, model, OPEN_CLIP_CONFIG, revision)
    try:
        config = json.loads(path.read_bytes())
        settings, images = dict(config["model_cfg"]), dict(config.get("preprocess_cfg") or {})
        tower = dict(settings["vision_cfg"])
        _check(model, settings)
        transform = _transform(model, tower.get("image_size", 224), images)
    except (ValueError, KeyError, TypeError) as error:
        raise cannot_load(_KIND, model, error) from error
    weights = read_safetensors(_KIND, model_file(_KIND, model, _WEIGHTS, revision))
    clip = clip_of_open_clip(model, weights, settings, device)
    vocabulary: int = clip.config.text_config.vocab_size
    words = load_tokenizer(tokenizer or model, vocabulary, None if tokenizer else revision)
    return [clip, words, transform]


def clip_of_open_clip(
    model: str, weights: Mapping[str, Any], settings: Mapping[str, Any], device: str
) -> Any:
    """A CLIP model of ``transformers`` of open_clip's weights.

    Args:
        model: What is loaded, for messages.
        weights: Tensors by open_clip's names.
        settings: ``model_cfg`` of its configuration, checked.
        device: A torch device.

    Raises:
        ModelError: The weights do not fit the settings.
    """
    from transformers import CLIPConfig, CLIPModel

    vision, text = settings["vision_cfg"], settings["text_cfg"]
    activation = "quick_gelu" if settings.get("quick_gelu") else "gelu"
    width, vocabulary = vision.get("width", 768), text.get("vocab_size", 49408)
    text_config = {
        **_tower(text, 512),
        "num_attention_heads": text.get("heads", 8),
        "max_position_embeddings": text.get("context_length", 77),
        "vocab_size": vocabulary,
        "hidden_act": activation,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }
    vision_config = {
        **_tower(vision, 768),
        "num_attention_heads": width // vision.get("head_width", 64),
        "image_size": vision.get("image_size", 224),
        "patch_size": vision.get("patch_size", 16),
        "hidden_act": activation,
    }
    config = CLIPConfig(
        text_config=text_config, vision_config=vision_config, projection_dim=settings["embed_dim"]
    )
    return load_weights(CLIPModel, config, _renamed(weights), _KIND, model, device)


def load_tokenizer(model: str, vocabulary: int, revision: str | None = None) -> Any:
    """A tokenizer of CLIP's kind.

    Raises:
        ModelError: It cannot be had, or does not go with a text tower of so many tokens.
    """
    from transformers import CLIPTokenizer

    try:
        (tokenizer,) = load_processors([CLIPTokenizer], _KIND, model, revision)
    except ModelError as error:
        raise ModelError(
            f"{model} has no tokenizer of CLIP's kind: set `tokenizer` to a model that has one, "
            f"such as openai/clip-vit-base-patch32"
        ) from error
    if len(tokenizer) != vocabulary or tokenizer.eos_token_id != vocabulary - 1:
        raise ModelError(
            f"the tokenizer of {model} has {len(tokenizer)} tokens, the text tower {vocabulary}: "
            f"set `tokenizer` to a model that has the right one"
        )
    return tokenizer


def open_clip_text(text: str) -> str:
    """A text as open_clip's tokenizer reads it: repaired by ftfy, without HTML, in lower case."""
    import ftfy

    plain = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(plain.split()).lower()


def _check(model: str, settings: Mapping[str, Any]) -> None:
    """Raise ModelError if a model is something else than two plain transformers."""
    vision, text = settings["vision_cfg"], settings["text_cfg"]
    for part, name in ((vision, "timm_model_name"), (text, "hf_model_name")):
        if part.get(name):
            raise _refused(model, f"it has a tower of another library ({part[name]})")
    if not isinstance(vision.get("layers", 12), int):
        raise _refused(model, "its vision tower is a ResNet")
    for part, known in ((settings, _MODEL), (vision, _VISION), (text, _TEXT)):
        for name, value in part.items():
            is_plain = not value or name in known or value in _PLAIN.get(name, ())
            if not is_plain and not _WITHOUT_EFFECT.fullmatch(name):
                raise _refused(model, f"{name} is {value!r}")


def _refused(model: str, reason: str) -> ModelError:
    return ModelError(
        f"{model} is no model of CLIP's two plain transformers: {reason}; if it was published for "
        f"transformers, too, name that (scorers clip, siglip)"
    )


def _transform(model: str, side: object, images: Mapping[str, Any]) -> ImageTransform:
    mode = images.get("resize_mode") or "shortest"
    interpolation = images.get("interpolation") or "bicubic"
    if not isinstance(side, int):
        raise _refused(model, f"its images are of {side}, no square")
    if mode not in ("shortest", "squash") or interpolation not in ("bicubic", "bilinear"):
        raise _refused(model, f"its images are resized by {mode}, {interpolation}")
    return ImageTransform(
        side,
        images.get("mean") or CLIP_MEAN,
        images.get("std") or CLIP_STD,
        interpolation=interpolation,
        squash=mode == "squash",
    )


def _tower(part: Mapping[str, Any], width: int) -> dict[str, Any]:
    width = part.get("width", width)
    return {
        "hidden_size": width,
        "intermediate_size": int(width * part.get("mlp_ratio", 4.0)),
        "num_hidden_layers": part.get("layers", 12),
    }


def _renamed(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights by the names of ``transformers``."""
    renamed: dict[str, Any] = {}
    for old, tensor in weights.items():
        name = old
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        if name in _NO_WEIGHTS:
            continue
        if name.endswith(("self_attn.in_proj_weight", "self_attn.in_proj_bias")):
            stem, _, what = name.rpartition("in_proj_")
            for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                renamed[f"{stem}{letter}_proj.{what}"] = third
        elif old.endswith(("visual.proj", "text_projection")):
            renamed[name] = tensor.T.contiguous()
        else:
            renamed[name] = tensor
    return renamed
