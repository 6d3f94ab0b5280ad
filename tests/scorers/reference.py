"""Small weights, images and captions that the recorded values of other people's code are of.

`tests/data/make_scorer_goldens.py` and the tests make the same ones: by NumPy's oldest generator,
whose numbers never change, from names and shapes. Nothing else is imported here, so that it works
beside any version of the sources.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent.parent / "data" / "scorer_goldens.json"

#: The tokens of a small CLIP tokenizer, beside single bytes.
MERGES = ["t h", "th e</w>", "a n", "r e", "re d</w>"]
#: BERT's tokens.
LETTERS = "abcdefghijklmnopqrstuvwxyz.,&"
WORDPIECES = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "red", "barn", "and", "##s"),
    *LETTERS,
    *(f"##{letter}" for letter in LETTERS),
]
CAPTIONS = [
    "The red barn",
    "  THE  anthem \u201cthere\u201d &amp;amp; the red \uff21rea ",
    "red " * 40,
    "caf\u00e9, a th\u00e9\u00e2tre",
]
#: Height and width: square, portrait with an odd margin, landscape, smaller than the model's.
SIZES = [(40, 40), (53, 32), (32, 47), (20, 30)]


def goldens(source: str) -> dict[str, Any]:
    """What is recorded of a source: its versions, settings, weights' names and shapes, values."""
    return json.loads(FILE.read_text())[source]


def image(number: int) -> np.ndarray:
    """An image of coarse squares: uint8, shape (height, width, 3)."""
    height, width = SIZES[number]
    coarse = np.random.RandomState(number).randint(0, 256, (height // 4 + 1, width // 4 + 1, 3))
    return np.kron(coarse, np.ones((4, 4, 1), int))[:height, :width].astype(np.uint8)


def weight(name: str, shape: list[int]) -> np.ndarray:
    """The weights of a name and shape: float32, such that activations neither vanish nor grow."""
    if name.endswith("logit_scale"):
        return np.full(shape, np.log(100.0), np.float32)
    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("text_projection"):
        noise = -noise  # with which cosines are above 0
    if len(shape) > 1:
        return (noise * 1.5 / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    return (name.endswith("weight") + 0.1 * noise).astype(np.float32)


def weights(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Weights by name."""
    return {name: weight(name, shape) for name, shape in shapes.items()}


def save_weights(path: Path, shapes: dict[str, list[int]], metadata: str = "pt") -> Path:
    """Weights in a file of safetensors."""
    from safetensors.numpy import save_file

    save_file(weights(shapes), path, metadata={"format": metadata})
    return path


def save_clip_tokenizer(folder: Path, length: int = 24) -> Path:
    """The small CLIP tokenizer."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    merged = ["".join(merge.split()) for merge in MERGES]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *merged]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]) + "\n")
    vocabulary, merges = str(folder / "vocab.json"), str(folder / "merges.txt")
    CLIPTokenizer(vocabulary, merges, model_max_length=length).save_pretrained(folder)
    return folder


def scored(scorer: Any, captions: list[str] = CAPTIONS) -> list[Any]:
    """The scores of each image with its caption, one by one: the images differ in size."""
    import torch

    return [
        scorer.score(torch.from_numpy(image(n)).permute(2, 0, 1)[None], [caption])
        for n, caption in enumerate(captions)
    ]


def cosines(scores: list[Any]) -> list[float]:
    """The cosines of their embeddings."""
    return [float((one.image_embeddings * one.text_embeddings).sum()) for one in scores]
