"""The best loop that a user would write by hand, and the denoiser alone, which no loop can beat.

The loop has what one learns to do: diffusers in batches, each caption encoded once for all of its
candidates (by the pipeline's text encoders and by CLIP's), images scored in memory as they come,
winners alone encoded and written, once. It knows no kills, no second run, no failed images, no
report, and nothing goes on beside the denoiser.

The denoiser alone makes the same forward passes with the same arguments, guidance included, and
nothing else: no text encoders, no scheduler, no decoder, no scores, no files.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from official_loop import CAPTIONS_AT_A_TIME, Clip, Entry, Score, load, ssim_score
from PIL import Image

from synthvlm import Recipe
from synthvlm.generators.prompt_encoding import PROMPT_FACTS
from synthvlm.scorers.clip import ClipSettings
from synthvlm.scorers.ssim import SsimSettings

SUFFIXES = {"png": "png", "jpeg": "jpg", "webp": "webp"}


class HandWrittenLoop:
    """The models; ``run`` goes through generation, scoring and selection."""

    def __init__(
        self, recipe: Recipe, pipeline: Path, clip: Path, *, device: str, batch_size: int
    ) -> None:
        """Load the models.

        Args:
            recipe: Dtype, steps, guidance, size, image format, scores and share selected.
            pipeline: Folder of the diffusers pipeline.
            clip: Folder of the CLIP model.
            device: ``cpu`` or ``cuda``.
            batch_size: Images generated at a time.
        """
        self._recipe, self._batch_size = recipe, batch_size
        self._pipeline, self._clip = load(recipe, pipeline, device), Clip(clip, device)

    @torch.inference_mode()
    def run(
        self, entries: Sequence[Entry], out: Path
    ) -> tuple[list[Score], list[Score], list[Score]]:
        """Scores of all candidates; of the best one of each caption; of those of them selected.

        Args:
            entries: The candidates of a caption are neighbours.
            out: Folder to be made.
        """
        captions = list(dict.fromkeys(entry.caption for entry in entries))
        prompts = encode_prompts(self._pipeline, captions)
        settings = self._recipe.scorers["clip"]
        assert isinstance(settings, ClipSettings)
        vectors = self._clip.embed_captions([settings.prefix + caption for caption in captions])
        texts = dict(zip(captions, vectors, strict=True))
        (out / "best").mkdir(parents=True)
        scores: list[Score] = []
        best: dict[str, tuple[Score, Image.Image]] = {}
        winners: list[Score] = []
        for start in range(0, len(entries), self._batch_size):
            batch = entries[start : start + self._batch_size]
            images = self._generate(batch, prompts)
            for score, image in zip(self._score(batch, images, texts), images, strict=True):
                scores.append(score)
                if score.caption_id not in best or score.score > best[score.caption_id][0].score:
                    best[score.caption_id] = score, image
                if len(scores) % self._recipe.generation.candidates == 0:
                    winner, image = best.pop(score.caption_id)
                    name = f"{len(winners):09d}.{SUFFIXES[self._recipe.generation.image.format]}"
                    image.save(out / "best" / name)
                    winners.append(winner)
        (out / "scores.json").write_text(json.dumps([asdict(score) for score in scores]))
        ranked = sorted(winners, key=lambda score: score.score, reverse=True)
        share = self._recipe.selection.top_fraction or 1.0
        selected = ranked[: math.ceil(round(share * len(ranked), 6))]
        (out / "selected.json").write_text(json.dumps([asdict(score) for score in selected]))
        return scores, winners, selected

    def _generate(
        self, batch: Sequence[Entry], prompts: dict[str, dict[str, torch.Tensor]]
    ) -> list[Image.Image]:
        rows = [prompts[entry.caption] for entry in batch]
        images = self._pipeline(
            **{name: torch.stack([row[name] for row in rows]) for name in rows[0]},
            **call_settings(self._recipe),
            generator=[torch.Generator("cpu").manual_seed(entry.seed) for entry in batch],
            output_type="pt",
        ).images
        pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(row) for row in pixels]

    def _score(
        self, batch: Sequence[Entry], images: list[Image.Image], texts: dict[str, np.ndarray]
    ) -> list[Score]:
        scorers = self._recipe.scorers
        clip_settings, ssim_settings = scorers["clip"], scorers["ssim"]
        assert isinstance(clip_settings, ClipSettings)
        assert isinstance(ssim_settings, SsimSettings)
        inputs = self._clip.processor(images=images, return_tensors="pt")["pixel_values"]
        pixels = self._clip.embed_images(inputs)
        captions = np.stack([texts[entry.caption] for entry in batch])
        sides = ssim_settings.side, ssim_settings.model_input_side
        scored = []
        for entry, cosine, image in zip(
            batch, (captions * pixels).sum(axis=1), images, strict=True
        ):
            clip, ssim = max(float(cosine), 0.0), ssim_score(image, *sides)
            total = clip_settings.weight * clip + ssim_settings.weight * ssim
            scored.append(Score(entry.caption_id, entry.index, entry.image, clip, ssim, total))
        return scored


class DenoiserAlone:
    """The denoiser of a pipeline, and the arguments that the pipeline calls it with."""

    def __init__(
        self, recipe: Recipe, pipeline: Path, *, device: str, batch_size: int, images: int
    ) -> None:
        """Load the pipeline, and note the calls of a batch of each size that will be needed."""
        loaded = load(recipe, pipeline, device)
        self._denoiser = denoiser(loaded)
        self._counts = [min(batch_size, images - start) for start in range(0, images, batch_size)]
        self._calls = {
            size: noted_calls(loaded, self._denoiser, recipe, size) for size in set(self._counts)
        }

    @torch.inference_mode()
    def run(self) -> None:
        """All forward passes."""
        for count in self._counts:
            for positional, named in self._calls[count]:
                self._denoiser(*positional, **named)


def denoiser(pipeline: Any) -> Any:
    """The network of a pipeline that is called in every step."""
    return pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer


def call_settings(recipe: Recipe) -> dict[str, Any]:
    """The arguments of a pipeline's call that the recipe gives."""
    settings = recipe.generation
    return {
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance_scale,
        "height": settings.height,
        "width": settings.width,
    }


def encode_prompts(pipeline: Any, captions: Sequence[str]) -> dict[str, dict[str, torch.Tensor]]:
    """What a pipeline makes of each caption, by the names of its call's arguments."""
    names = PROMPT_FACTS[type(pipeline).__name__].returned
    accepted = inspect.signature(pipeline.encode_prompt).parameters
    fixed: dict[str, Any] = {"device": pipeline.device, "num_images_per_prompt": 1}
    fixed["do_classifier_free_guidance"] = True
    if "prompt_2" in accepted:
        fixed["prompt_2"] = None
    if "prompt_3" in accepted:
        fixed["prompt_3"] = None
    fixed = {name: value for name, value in fixed.items() if name in accepted}
    encoded: dict[str, dict[str, torch.Tensor]] = {}
    for start in range(0, len(captions), CAPTIONS_AT_A_TIME):
        some = list(captions[start : start + CAPTIONS_AT_A_TIME])
        returned = dict(zip(names, pipeline.encode_prompt(prompt=some, **fixed), strict=True))
        for row, caption in enumerate(some):
            encoded[caption] = {
                name: value[row]
                for name, value in returned.items()
                if name is not None and value is not None
            }
    return encoded


@torch.inference_mode()
def noted_calls(
    pipeline: Any, network: Any, recipe: Recipe, size: int
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The arguments of every call of the denoiser in a batch of images."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    prompt = encode_prompts(pipeline, ["a"])["a"]
    hook = network.register_forward_pre_hook(
        lambda _, positional, named: calls.append((positional, named)), with_kwargs=True
    )
    try:
        pipeline(
            **{name: torch.stack([value] * size) for name, value in prompt.items()},
            **call_settings(recipe),
            output_type="latent",
        )
    finally:
        hook.remove()
    return calls
