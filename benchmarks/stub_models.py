"""Models that cost next to nothing, to see what everything around them costs.

No model runs: an image is a tile of 8 x 8 pixels that holds its seed, and its scores are hashes of
the seed. Embeddings have the length and the dtype of CLIP ViT-L/14's, and mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from synthvlm.generators import GeneratedImages, Generator
from synthvlm.recipe import Recipe
from synthvlm.scorers import Scorer, Scores
from synthvlm.stages.generation.models import Models

__all__ = ["load_stub_models"]

SIDE = 8
EMBEDDING_LENGTH = 768
_EMBEDDINGS = 4096
_SEED_BYTES = 8
#: An odd number: multiplication modulo 2**64 is a bijection that mixes the upper bits.
_MIXER = np.uint64(0x9E3779B97F4A7C15)


def load_stub_models(recipe: Recipe) -> Models:
    """Stubs, whatever the recipe names."""
    return Models(StubGenerator(), {"clip": StubClip(), "ssim": StubSsim()})


class StubGenerator(Generator):
    """Tiles that hold their seed."""

    name = "stub"

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        tiles = np.full((len(seeds), 3 * SIDE * SIDE), 128, np.uint8)
        tiles[:, :_SEED_BYTES] = np.array(seeds, np.uint64)[:, None].view(np.uint8)
        tiles[:, -2:] = (0, 255)  # never blank
        pixels = torch.from_numpy(tiles.reshape(-1, 3, SIDE, SIDE))
        return GeneratedImages(pixels, (None,) * len(seeds))


class StubClip(Scorer):
    """Scores between 0.2 and 0.4, by a hash of the seed."""

    def __init__(self) -> None:
        vectors = np.random.default_rng(0).standard_normal((_EMBEDDINGS, EMBEDDING_LENGTH))
        self._table = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        hashes = _hashes(images)
        rows = (hashes >> np.uint64(8)) % np.uint64(_EMBEDDINGS)
        return Scores(
            0.2 + 0.2 * _shares(hashes),
            self._table[rows],
            self._table[(rows + np.uint64(1)) % np.uint64(_EMBEDDINGS)],
            (False,) * len(captions),
        )


class StubSsim(Scorer):
    """Scores between 0.6 and 0.8, by a hash of the seed."""

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        return Scores(0.6 + 0.2 * _shares(_hashes(images) * _MIXER))


def _hashes(images: torch.Tensor) -> np.ndarray:
    tiles = images.numpy().reshape(len(images), -1)[:, :_SEED_BYTES]
    return np.ascontiguousarray(tiles).view(np.uint64)[:, 0] * _MIXER


def _shares(hashes: np.ndarray) -> np.ndarray:
    return np.asarray(hashes.astype(np.float64) / 2.0**64)
