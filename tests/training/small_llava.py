"""Small real parts of a LLaVA with random weights, and small data to train it on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

SIDE = 16
FEATURES = 4
COLORS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}


def byte_tokenizer(*merges: tuple[str, str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE that puts its beginning of text first, as Llama's does."""
    words = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words += [left + right for left, right in merges]
    bpe = models.BPE({word: n for n, word in enumerate(words)}, list(merges))
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", model_max_length=100_000
    )


def save_language(folder: Path, *, tied: bool = False) -> Path:
    torch.manual_seed(1)
    words = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=None,
        tie_word_embeddings=tied,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def save_tower(folder: Path) -> Path:
    torch.manual_seed(2)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=8,
    )
    CLIPVisionModel(config).save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    ).save_pretrained(folder)
    return folder


def entry(n: int, *, image: bool = True, turns: int = 1) -> dict[str, Any]:
    color = list(COLORS)[n % len(COLORS)]
    said = []
    for turn in range(turns):
        mark = "\n<image>" if image and turn == 0 else ""
        said.append({"from": "human", "value": f"Which colour is it?{mark}"})
        said.append({"from": "gpt", "value": f"a {color} picture{', yes' * (n % 4)}"})
    found: dict[str, Any] = {"id": f"r{n}", "conversations": said}
    return {**found, "image": f"0/{n}.png"} if image else found


def save_data(folder: Path, entries: list[dict[str, Any]]) -> Path:
    """``llava.json`` and ``images/``, as a run exports them; returns the folder."""
    (folder / "images" / "0").mkdir(parents=True)
    for n, found in enumerate(entries):
        if "image" in found:
            color = COLORS[list(COLORS)[n % len(COLORS)]]
            pixels = np.full((20, 24, 3), color, np.uint8)
            pixels[:, : n % 20] //= 2
            Image.fromarray(pixels).save(folder / "images" / found["image"])
    (folder / "llava.json").write_text(json.dumps(entries))
    return folder
