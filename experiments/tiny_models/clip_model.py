"""The CLIP: a vision tower of 5x128 on patches of 8, a text tower of 3x128."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from experiments.tiny_models.clip_atoms import ATOMS

__all__ = ["MIDDLE", "SCALE", "Trainer", "build", "text_settings"]

# A pair with cosine 0.5 is called even; the scale is fixed so that cosines spread widely.
SCALE, MIDDLE = 10.0, 0.5

_WIDTH = 128
_COMMON = {
    "hidden_size": _WIDTH,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "hidden_act": "gelu",
    "projection_dim": _WIDTH,
}


def text_settings(tokenizer: CLIPTokenizer) -> dict[str, Any]:
    """Settings of the text tower."""
    return {
        **_COMMON,
        "vocab_size": len(tokenizer),
        "num_hidden_layers": 3,
        "max_position_embeddings": 77,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def build(tokenizer: CLIPTokenizer) -> CLIPModel:
    """A new model with random weights and two-dimensional sine positions."""
    config = CLIPConfig(
        text_config=text_settings(tokenizer),
        vision_config={**_COMMON, "num_hidden_layers": 5, "image_size": 64, "patch_size": 8},
        projection_dim=_WIDTH,
        logit_scale_init_value=float(np.log(SCALE)),
    )
    model = CLIPModel(config)
    with torch.no_grad():
        # The default positions are twenty times weaker than the patches: place goes unseen.
        positions = model.vision_model.embeddings.position_embedding.weight
        positions[1:] = 0.4 * _sine_positions(8, positions.shape[1])
        nn.init.normal_(model.vision_model.embeddings.patch_embedding.weight, std=0.07)
        nn.init.normal_(model.text_model.embeddings.token_embedding.weight, std=0.3)
        nn.init.normal_(model.text_model.embeddings.position_embedding.weight, std=0.1)
    return model


def _sine_positions(side: int, width: int) -> torch.Tensor:
    quarter = width // 4
    rates = torch.pi / side * 2.0 ** torch.linspace(-1, 2, quarter)
    angle = (torch.arange(side) + 0.5)[:, None] * rates
    one = torch.cat([angle.sin(), angle.cos()], 1)
    rows = one[:, None].expand(-1, side, -1)
    columns = one[None].expand(side, -1, -1)
    return torch.cat([rows, columns], 2).reshape(side * side, width)


class Trainer(nn.Module):
    """The model with the extra heads that training alone uses."""

    def __init__(self, model: CLIPModel) -> None:
        """Add heads with random weights."""
        super().__init__()
        self.model = model
        self.image_head = nn.Linear(_WIDTH, ATOMS)
        self.text_head = nn.Linear(_WIDTH, ATOMS)
        for head in (self.image_head, self.text_head):
            nn.init.constant_(head.bias, -4.0)  # few of the facts hold of any one picture

    def forward(
        self, pixels: torch.Tensor, ids: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Cosines (images, texts) and the logits of both extra heads."""
        seen = self.model.vision_model(pixel_values=pixels).pooler_output
        # Causal attention never looks at the padding, so it needs no mask, and the shorter
        # half of the texts need not carry the longer half's padding.
        order = lengths.argsort()
        halves = order.chunk(2)
        pooled = [
            self.model.text_model(input_ids=ids[half, : int(lengths[half].max())]).pooler_output
            for half in halves
        ]
        read = torch.cat(pooled)[order.argsort()]
        image = F.normalize(self.model.visual_projection(seen), dim=-1)
        text = F.normalize(self.model.text_projection(read), dim=-1)
        return image @ text.T, self.image_head(seen), self.text_head(read)
