"""Models that cost nothing: pixels and scores are hashes of the prompt and the seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from synthvlm.generators.base import GeneratedImages
from synthvlm.recipe import Recipe
from synthvlm.scorers.base import Scores
from synthvlm.stages.models import Models

__all__ = ["FakeClip", "FakeGenerator", "FakeSsim", "load_fake_models", "use_fake_models"]

SIDE = 16


def _numbers(*parts: object) -> np.random.Generator:
    digest = hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest))


def _direction(*parts: object) -> np.ndarray:
    vector = _numbers("embedding", *parts).standard_normal(4, np.float32)
    return np.asarray(vector / np.linalg.norm(vector))


class FakeGenerator:
    """Noise that depends on the prompt and the seed alone."""

    reproducible = True

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        images = [
            _numbers(prompt, seed).integers(0, 256, (3, SIDE, SIDE), np.uint8)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return GeneratedImages(torch.from_numpy(np.stack(images)), (None,) * len(images))


class FakeClip:
    """Scores that depend on the pixels and the caption alone."""

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        values = [
            _numbers("clip", image.numpy().tobytes(), caption).random()
            for image, caption in zip(images, captions, strict=True)
        ]
        return Scores(
            np.array(values),
            np.stack([_direction(image.numpy().tobytes()) for image in images]),
            np.stack([_direction(caption) for caption in captions]),
            (False,) * len(captions),
        )


class FakeSsim:
    """Scores that depend on the pixels alone."""

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        values = [_numbers("ssim", image.numpy().tobytes()).random() for image in images]
        return Scores(np.array(values))


def load_fake_models(recipe: Recipe) -> Models:
    """Fake models whatever the recipe names."""
    return Models(FakeGenerator(), FakeClip(), FakeSsim())  # type: ignore[arg-type]


def use_fake_models() -> None:
    """Make this process load fake models whatever the recipe names."""
    Models.load = classmethod(lambda cls, recipe: load_fake_models(recipe))  # type: ignore[assignment]


def use_models(
    monkeypatch: pytest.MonkeyPatch, generator: Any, clip: Any = None, *check: Any
) -> Models:
    """Have every recipe load these in a test, with fakes for the scorers that are not given."""
    models = Models(generator, clip or FakeClip(), FakeSsim(), *check)  # type: ignore[arg-type]
    monkeypatch.setattr(Models, "load", classmethod(lambda cls, recipe: models))
    return models
