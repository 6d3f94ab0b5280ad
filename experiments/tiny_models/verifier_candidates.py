"""Candidates of the shipped generator for captions to train on, with the checker's verdicts."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from experiments.tiny_models.autoencoder_model import to_tensor
from experiments.tiny_models.clip_claims import trainable_claim
from experiments.tiny_models.verifier_pictures import Pictures
from synthvlm.tiny import pipeline_path
from synthvlm.tiny.captions import phrase
from synthvlm.tiny.checker import Sighting, see

__all__ = ["Candidates"]

STEPS: Final = 3  # of the generator, as in the recipe
GUIDANCE: Final = 2.0
BATCH: Final = 48


class Candidates:
    """A pool of candidates, which batches are taken from."""

    def __init__(self, file: Path, count: int, seed: int) -> None:
        """Read the pool, or generate it if the file is not there.

        Args:
            file: An .npz of the images; the rest follows from the seed.
            count: Images.
            seed: Of captions and images.
        """
        rng = Random(seed)
        self._claims = [trainable_claim(rng) for _ in range(count)]
        if not file.exists():
            captions = [phrase(claim, rng) for claim in self._claims]
            whole = file.with_suffix(".part.npz")
            np.savez_compressed(whole, images=_generate(captions, seed))
            whole.rename(file)
        with np.load(file) as stored:
            self._images = stored["images"]
        if len(self._images) != count:
            raise SystemExit(f"{file} holds {len(self._images)} images, not {count}: move it away")
        self._seen: dict[int, Sighting] = {}

    def draw(self, count: int, rng: Random) -> Pictures:
        """Some of the pool, at random."""
        rows = [rng.randrange(len(self._images)) for _ in range(count)]
        seen = [self._sighting(row) for row in rows]
        return Pictures(
            to_tensor(self._images[rows]),
            [self._claims[row] for row in rows],
            [None if sighting.fault else sighting.scene for sighting in seen],
            [sighting.fault is not None for sighting in seen],
            torch.zeros((0, 64), dtype=torch.long),
        )

    def _sighting(self, row: int) -> Sighting:
        if row not in self._seen:
            self._seen[row] = see(self._images[row])
        return self._seen[row]


def _generate(captions: list[str], seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Images (n, 64, 64, 3) of the captions, one each."""
    pipeline: Any = StableDiffusionPipeline.from_pretrained(
        pipeline_path(), dtype=torch.float32, safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)
    images = [
        pipeline(
            captions[start : start + BATCH],
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=[
                torch.Generator().manual_seed(1_000_003 * seed + start + i)
                for i in range(len(captions[start : start + BATCH]))
            ],
            output_type="np",
        ).images
        for start in range(0, len(captions), BATCH)
    ]
    return (np.concatenate(images) * 255).round().astype(np.uint8)
