"""The autoencoder: 64x64 pixels to 8x8 latents of 16 channels, and back.

It has no normalisation layers, so that pale background tints survive.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderTiny

__all__ = ["LATENT_CHANNELS", "build", "frozen", "to_tensor"]

LATENT_CHANNELS = 16
WIDTH = 32


def build() -> AutoencoderTiny:
    """A new autoencoder with random weights."""
    return AutoencoderTiny(
        encoder_block_out_channels=(WIDTH,) * 4,
        decoder_block_out_channels=(WIDTH,) * 4,
        num_encoder_blocks=(0, 2, 3, 3),
        num_decoder_blocks=(8, 3, 2, 1),  # cheap where pictures are 8x8
        latent_channels=LATENT_CHANNELS,
        scaling_factor=1.0,
    )


def frozen(weights: dict[str, torch.Tensor]) -> AutoencoderTiny:
    """The autoencoder with trained weights, for the training of others."""
    codec = build()
    codec.load_state_dict(weights)
    return codec.to(memory_format=torch.channels_last).eval()


def to_tensor(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """RGB (n, h, w, 3), 0 to 255, as channels-last (n, 3, h, w), -1 to 1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
