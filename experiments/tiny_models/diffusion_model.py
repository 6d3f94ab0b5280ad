"""The diffusion model: a UNet on the autoencoder's latents, and its text encoder."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from experiments.tiny_models.autoencoder_model import LATENT_CHANNELS
from experiments.tiny_models.clip_model import text_settings

__all__ = ["TEXT_LENGTH", "Trainer", "build", "build_scheduler", "build_text_encoder", "token_ids"]

TEXT_LENGTH = 28  # tokens that the diffusion model reads; CLIP itself reads 77


def build() -> UNet2DConditionModel:
    """A new UNet with random weights."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(96, 128),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,  # diffusers reads this as the number of heads
        norm_num_groups=16,
        # The caption as a whole reaches every block together with the timestep: colours and
        # shapes are learnt much sooner than through cross-attention alone.
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A new text encoder with random weights, of the same make as the CLIP's."""
    return CLIPTextModel(CLIPTextConfig(**text_settings(tokenizer)))


def build_scheduler() -> DDIMScheduler:
    """The noise schedule of training, which is also the sampler of the pipeline."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token numbers (n, `TEXT_LENGTH`), padded as the pipeline pads them."""
    ids: torch.Tensor = tokenizer(
        captions,
        padding="max_length",
        max_length=TEXT_LENGTH,
        truncation=True,
        return_tensors="pt",
    )["input_ids"]
    return ids


class Trainer(nn.Module):
    """UNet and text encoder, trained together."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        """Take both as they are."""
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, ids: torch.Tensor
    ) -> torch.Tensor:
        """The predicted velocity, of the latents' shape."""
        context = self.text_encoder(input_ids=ids).last_hidden_state
        predicted: torch.Tensor = self.unet(noisy, timesteps, context).sample
        return predicted
