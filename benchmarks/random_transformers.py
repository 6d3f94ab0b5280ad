"""Diffusion transformers of the size of SD3 medium and FLUX.1-dev with random weights.

The configurations are those of stabilityai/stable-diffusion-3-medium-diffusers and
black-forest-labs/FLUX.1-dev, built on the device; nothing is written or loaded. The text encoders
are left out: they see a caption once for all of its images, and random numbers of the shape of what
they return do as well. ``small`` gives the same parts in sizes that a CPU runs in no time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)

LATENT_CHANNELS = 16
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": LATENT_CHANNELS,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
SMALL_VAE = VAE | {"block_out_channels": (32,) * 4, "layers_per_block": 1}
SD3: dict[str, Any] = {
    "sample_size": 128,
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 192,
}
FLUX: dict[str, Any] = {"guidance_embeds": True}
SMALL: dict[str, Any] = {
    "num_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 32,
}
SMALL_SD3 = SD3 | SMALL | {"caption_projection_dim": 32, "sample_size": 8}
SMALL_FLUX = FLUX | SMALL | {"num_single_layers": 1, "axes_dims_rope": (4, 6, 6)}
#: Tokens that the text encoders give: SD3's CLIPs and T5 together, FLUX's T5.
SD3_TOKENS, FLUX_TOKENS = 77 + 256, 512


@dataclass(frozen=True, slots=True)
class RandomPipeline:
    """A pipeline, and its call's arguments that stand for prompts.

    Attributes:
        name: Whose size it has.
        pipeline: The pipeline, on its device.
        prompts: The arguments for a number of images.
    """

    name: str
    pipeline: Any
    prompts: Callable[[int], dict[str, Any]]


def sd3(device: str, dtype: torch.dtype, *, small: bool = False) -> RandomPipeline:
    """Of the size of SD3 medium; each step is guided: two forward passes an image."""
    sizes = SMALL_SD3 if small else SD3
    with torch.device(device):
        transformer = SD3Transformer2DModel(**sizes).to(dtype).eval()
        vae = AutoencoderKL(**_vae(small), scaling_factor=1.5305, shift_factor=0.0609)
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        vae=vae.to(dtype).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        **_no_text_encoders(3),
    )
    config = transformer.config

    def prompts(count: int) -> dict[str, Any]:
        tokens = torch.randn(count, SD3_TOKENS, config.joint_attention_dim)
        pooled = torch.randn(count, config.pooled_projection_dim)
        named = {"prompt_embeds": tokens, "pooled_prompt_embeds": pooled}
        named |= {f"negative_{name}": -value for name, value in named.items()}
        return {name: value.to(device, dtype) for name, value in named.items()}

    return RandomPipeline("SD3 medium", _quiet(pipeline), prompts)


def flux(device: str, dtype: torch.dtype, *, small: bool = False) -> RandomPipeline:
    """Of the size of FLUX.1-dev, 24 GB in half precision; one forward pass an image and step."""
    sizes = SMALL_FLUX if small else FLUX
    with torch.device(device):
        transformer = _in(dtype, lambda: FluxTransformer2DModel(**sizes))
        vae = AutoencoderKL(**_vae(small), scaling_factor=0.3611, shift_factor=0.1159)
    pipeline = FluxPipeline(
        transformer=transformer.eval(),
        vae=vae.to(dtype).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        **_no_text_encoders(2),
    )
    config = transformer.config

    def prompts(count: int) -> dict[str, Any]:
        named = {
            "prompt_embeds": torch.randn(count, FLUX_TOKENS, config.joint_attention_dim),
            "pooled_prompt_embeds": torch.randn(count, config.pooled_projection_dim),
        }
        return {name: value.to(device, dtype) for name, value in named.items()}

    return RandomPipeline("FLUX.1-dev", _quiet(pipeline), prompts)


def _vae(small: bool) -> dict[str, Any]:
    return SMALL_VAE if small else VAE


def _in(dtype: torch.dtype, build: Callable[[], Any]) -> Any:
    """A model built in a dtype at once: in single precision it may not fit."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return build()
    finally:
        torch.set_default_dtype(before)


def _no_text_encoders(count: int) -> dict[str, None]:
    numbers = ["", *(f"_{number}" for number in range(2, count + 1))]
    return {f"{part}{number}": None for part in ("text_encoder", "tokenizer") for number in numbers}


def _quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
