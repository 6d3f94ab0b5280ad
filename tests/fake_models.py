"""Models that cost nothing: pixels and scores are hashes of the prompt and the seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthvlm.generators import GeneratedImages, Generator
from synthvlm.pipeline import Pipeline
from synthvlm.recipe import Recipe
from synthvlm.scorers import Scorer, Scores
from synthvlm.stages.generation.models import Models

__all__ = [
    "FakeClip",
    "FakeGenerator",
    "FakeSsim",
    "fake_scorers",
    "load_fake_models",
    "run_with",
    "use_fake_models",
]

SIDE = 16


def _numbers(*parts: object) -> np.random.Generator:
    digest = hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest))


def _direction(*parts: object) -> np.ndarray:
    vector = _numbers("embedding", *parts).standard_normal(4, np.float32)
    return np.asarray(vector / np.linalg.norm(vector))


class FakeGenerator(Generator):
    """Noise that depends on the prompt and the seed alone; counts the images."""

    name = "fake"
    reproducible = True
    generated = 0

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        self.generated += len(prompts)
        images = [
            _numbers(prompt, seed).integers(0, 256, (3, SIDE, SIDE), np.uint8)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return GeneratedImages(torch.from_numpy(np.stack(images)), (None,) * len(images))


class FakeClip(Scorer):
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


class FakeSsim(Scorer):
    """Scores that depend on the pixels alone."""

    def score(self, images: torch.Tensor, captions: Sequence[str]) -> Scores:
        values = [_numbers("ssim", image.numpy().tobytes()).random() for image in images]
        return Scores(np.array(values))


def fake_scorers(clip: Scorer | None = None) -> dict[str, Scorer]:
    """Fakes of the scorers that recipes have by default."""
    return {"clip": clip or FakeClip(), "ssim": FakeSsim()}


def load_fake_models(recipe: Recipe) -> Models:
    """Fake models whatever the recipe names."""
    return Models(FakeGenerator(), fake_scorers())


def run_with(
    recipe: Recipe,
    out: str | Path,
    load_models: Callable[[Recipe], Models] = load_fake_models,
    until: str = "report",
    **options: Any,
) -> None:
    """Run a recipe with models of a test."""
    pipeline = Pipeline(recipe, out, **options)
    pipeline._load_models = load_models
    pipeline.run(until)


def use_fake_models() -> None:
    """Make this process load fake models whatever the recipe names."""
    Models.load = classmethod(lambda cls, recipe: load_fake_models(recipe))  # type: ignore[assignment]


def use_models(
    monkeypatch: pytest.MonkeyPatch, generator: Any, clip: Any = None, *checks: Any
) -> Models:
    """Have every recipe load these in a test, with fakes for the scorers that are not given."""
    models = Models(generator, fake_scorers(clip), checks)
    monkeypatch.setattr(Models, "load", classmethod(lambda cls, recipe: models))
    return models
