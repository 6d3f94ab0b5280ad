"""SDXL and CLIP ViT-B/32 in full size with random weights: as much work as the real ones.

The configurations are those of stabilityai/stable-diffusion-xl-base-1.0 and
openai/clip-vit-base-patch32. Two things differ. The vocabulary is one of single bytes, for the real
one is a download; embedding tables keep their size, and prompts are padded to 77 tokens anyway. And
what comes out is noise. ``SMALL`` has the same parts in sizes that a CPU runs in no time, to try
what is meant for a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

VOCABULARY = 49408
TOKENS = 77

SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """The settings of each model that make its size."""

    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder: dict[str, Any]
    text_encoder_2: dict[str, Any]
    clip_text: dict[str, Any]
    clip_vision: dict[str, Any]


SDXL = Sizes(
    unet={
        "sample_size": 128,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (320, 640, 1280),
        "layers_per_block": 2,
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    vae={
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 1024,
        "scaling_factor": 0.13025,
        "force_upcast": True,
    },
    text_encoder={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "projection_dim": 768,
        "hidden_act": "quick_gelu",
    },
    text_encoder_2={
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "projection_dim": 1280,
        "hidden_act": "gelu",
    },
    clip_text={
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "projection_dim": 512,
        "hidden_act": "quick_gelu",
    },
    clip_vision={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 32,
        "projection_dim": 512,
        "hidden_act": "quick_gelu",
    },
)
_SMALL_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
_SMALL_TEXT |= {"num_attention_heads": 2, "projection_dim": 32}
SMALL = Sizes(
    unet=SDXL.unet
    | {
        "sample_size": 8,
        "block_out_channels": (32, 32, 32),
        "layers_per_block": 1,
        "transformer_layers_per_block": (1, 1, 1),
        "attention_head_dim": (2, 2, 2),
        "cross_attention_dim": 64,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 80,
    },
    vae=SDXL.vae | {"block_out_channels": (32,) * 4, "layers_per_block": 1, "sample_size": 64},
    text_encoder=SDXL.text_encoder | _SMALL_TEXT,
    text_encoder_2=SDXL.text_encoder_2 | _SMALL_TEXT,
    clip_text=SDXL.clip_text | _SMALL_TEXT,
    clip_vision=SDXL.clip_vision | _SMALL_TEXT,
)

#: Parameters of the real models, to check the above by.
PARAMETERS = {
    "unet": 2_567_463_684,
    "vae": 83_653_863,
    "text_encoder": 123_060_480,
    "text_encoder_2": 694_659_840,
    "clip": 151_277_313,
}


def tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer of single bytes; its files are written to a folder."""
    letters = list(bytes_to_unicode().values())
    names = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({name: n for n, name in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=TOKENS
    )


def models(words: CLIPTokenizer, device: str, sizes: Sizes = SDXL) -> dict[str, Any]:
    """The models by the names of ``PARAMETERS``, in float32; ``meta`` takes no memory."""
    common = {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": TOKENS,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    clip = CLIPConfig(
        text_config={**sizes.clip_text, **common},
        vision_config=sizes.clip_vision,
        projection_dim=sizes.clip_text["projection_dim"],
    )
    torch.manual_seed(0)
    with torch.device(device):
        return {
            "unet": UNet2DConditionModel(**sizes.unet),
            "vae": AutoencoderKL(**sizes.vae),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**sizes.text_encoder, **common)),
            "text_encoder_2": CLIPTextModelWithProjection(
                CLIPTextConfig(**sizes.text_encoder_2, **common)
            ),
            "clip": CLIPModel(clip),
        }


def save(folder: Path, device: str, dtype: torch.dtype, sizes: Sizes = SDXL) -> tuple[Path, Path]:
    """Make the models on a device, and write them as a pipeline and a CLIP model; 7 GB in half."""
    words = tokenizer(folder / "words")
    parts = {name: model.to(dtype) for name, model in models(words, device, sizes).items()}
    clip = parts.pop("clip")
    StableDiffusionXLPipeline(
        **parts, tokenizer=words, tokenizer_2=words, scheduler=EulerDiscreteScheduler(**SCHEDULER)
    ).save_pretrained(folder / "pipeline")
    clip.save_pretrained(folder / "clip")
    words.save_pretrained(folder / "clip")
    side = sizes.clip_vision["image_size"]
    CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    ).save_pretrained(folder / "clip")
    return folder / "pipeline", folder / "clip"


def check(folder: Path) -> dict[str, int]:
    """Parameters of each model; needs neither GPU nor memory.

    Raises:
        ValueError: A model is not of the real one's size.
    """
    counts = {
        name: sum(weight.numel() for weight in model.parameters())
        for name, model in models(tokenizer(folder), "meta").items()
    }
    wrong = {name: count for name, count in counts.items() if count != PARAMETERS[name]}
    if wrong:
        raise ValueError(f"not of the size of the real models: {wrong}, wanted {PARAMETERS}")
    return counts


@torch.no_grad()
def step_flops(height: int, width: int, sizes: Sizes = SDXL) -> int:
    """Floating-point operations of a denoising step of an image, both halves of its guidance."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**sizes.unet)
        latents = torch.empty(2, sizes.unet["in_channels"], height // 8, width // 8)
        arguments = {
            "timestep": torch.empty(2),
            "encoder_hidden_states": torch.empty(2, TOKENS, sizes.unet["cross_attention_dim"]),
            "added_cond_kwargs": {
                "text_embeds": torch.empty(2, sizes.text_encoder_2["projection_dim"]),
                "time_ids": torch.empty(2, 6),
            },
        }
        return flops(unet, latents, **arguments)


@torch.no_grad()
def decoder_flops(height: int, width: int, vae: dict[str, Any]) -> int:
    """Floating-point operations of decoding an image."""
    with torch.device("meta"):
        decoder = AutoencoderKL(**vae).decoder
        return flops(decoder, torch.empty(1, vae["latent_channels"], height // 8, width // 8))


def flops(model: Callable[..., Any], *arguments: Any, **named: Any) -> int:
    """Floating-point operations of a call, a multiplication and an addition counted as two."""
    with FlopCounterMode(display=False) as counter:
        model(*arguments, **named)
    return int(counter.get_total_flops())
