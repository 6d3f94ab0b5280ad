"""A small real BLIP with random weights, and what captioning models share."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipTextConfig,
    BlipVisionConfig,
)

SIDE = 32
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "<image>",
    *["a", "red", "green", "blue", "dog"],
]
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def save_words(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    BlipImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)


def end_on(folder: Path, name: str, token: int) -> None:
    """Have a saved model end its captions on that token."""
    for file, path in (("config.json", ["text_config"]), ("generation_config.json", [])):
        settings = json.loads((folder / file).read_text())
        part = settings
        for key in path:
            part = part[key]
        part[name] = token
        (folder / file).write_text(json.dumps(settings))


def save_blip(folder: Path) -> Path:
    """A BLIP with random weights."""
    save_words(folder)
    torch.manual_seed(1)
    config = BlipConfig(
        text_config=BlipTextConfig(
            vocab_size=len(WORDS),
            encoder_hidden_size=16,
            bos_token_id=2,
            sep_token_id=3,
            eos_token_id=3,
            pad_token_id=0,
            max_position_embeddings=32,
            **SMALL,
        ).to_dict(),
        vision_config=BlipVisionConfig(image_size=SIDE, patch_size=16, **SMALL).to_dict(),
        projection_dim=16,
        image_text_hidden_size=16,
    )
    BlipForConditionalGeneration(config).save_pretrained(folder)
    return folder
