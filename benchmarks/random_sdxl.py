"""SDXL and CLIP ViT-B/32 in full size with random weights: as much work as the real ones.

The configurations are those of stabilityai/stable-diffusion-xl-base-1.0 and
openai/clip-vit-base-patch32. Two things differ. The vocabulary is one of single bytes, for the real
one is a download; embedding tables keep their size, and prompts are padded to 77 tokens anyway. And
what comes out is noise.
"""

from __future__ import annotations

import json
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

UNET: dict[str, Any] = {
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
}
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
    "force_upcast": True,
}
TEXT_ENCODER: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
}
TEXT_ENCODER_2: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}
CLIP_TEXT: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "projection_dim": 512,
    "hidden_act": "quick_gelu",
}
CLIP_VISION: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "projection_dim": 512,
    "hidden_act": "quick_gelu",
}
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


def models(words: CLIPTokenizer, device: str) -> dict[str, Any]:
    """The models by the names of ``PARAMETERS``, in float32; ``meta`` takes no memory."""
    common = {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": TOKENS,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    clip = CLIPConfig(
        text_config={**CLIP_TEXT, **common}, vision_config=CLIP_VISION, projection_dim=512
    )
    torch.manual_seed(0)
    with torch.device(device):
        return {
            "unet": UNet2DConditionModel(**UNET),
            "vae": AutoencoderKL(**VAE),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT_ENCODER, **common)),
            "text_encoder_2": CLIPTextModelWithProjection(
                CLIPTextConfig(**TEXT_ENCODER_2, **common)
            ),
            "clip": CLIPModel(clip),
        }


def save(folder: Path, device: str, dtype: torch.dtype) -> tuple[Path, Path]:
    """Make the models on a device, and write them as a pipeline and a CLIP model; 7 GB in half."""
    words = tokenizer(folder / "words")
    parts = {name: model.to(dtype) for name, model in models(words, device).items()}
    clip = parts.pop("clip")
    StableDiffusionXLPipeline(
        **parts, tokenizer=words, tokenizer_2=words, scheduler=EulerDiscreteScheduler(**SCHEDULER)
    ).save_pretrained(folder / "pipeline")
    clip.save_pretrained(folder / "clip")
    words.save_pretrained(folder / "clip")
    CLIPImageProcessorPil().save_pretrained(folder / "clip")
    return folder / "pipeline", folder / "clip"


def check(folder: Path) -> dict[str, int]:
    """Parameters of each model; needs neither GPU nor memory.

    Raises:
        ValueError: A model is not of the real one's size.
    """
    found = {
        name: sum(weight.numel() for weight in model.parameters())
        for name, model in models(tokenizer(folder), "meta").items()
    }
    wrong = {name: count for name, count in found.items() if count != PARAMETERS[name]}
    if wrong:
        raise ValueError(f"not of the size of the real models: {wrong}, wanted {PARAMETERS}")
    return found


@torch.no_grad()
def step_flops(height: int, width: int) -> int:
    """Floating-point operations of a denoising step of an image, both halves of its guidance."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNET)
        latents = torch.empty(2, UNET["in_channels"], height // 8, width // 8)
        arguments = {
            "timestep": torch.empty(2),
            "encoder_hidden_states": torch.empty(2, TOKENS, UNET["cross_attention_dim"]),
            "added_cond_kwargs": {
                "text_embeds": torch.empty(2, TEXT_ENCODER_2["projection_dim"]),
                "time_ids": torch.empty(2, 6),
            },
        }
        with FlopCounterMode(display=False) as counter:
            unet(latents, **arguments)
    return int(counter.get_total_flops())
