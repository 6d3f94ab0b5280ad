"""The loop of the authors' published code, written anew: what `generation.py` compares with.

The facts are those of github.com/starriver030515/SynthVLM, no line of it is here:

- one prompt and one image a call of the pipeline, so a caption is encoded again for each candidate;
- every candidate is saved, and read back to be scored once all are generated;
- CLIPScore in batches, 256 captions and 64 images at a time, the caption of each candidate embedded
  again; images are read and prepared by loader processes; half precision on a GPU;
- the best candidate of each caption, then the best captions, from a list of scores in JSON.

Where the code leaves out what the paper says, it is done here as the paper says: SSIMScore is
measured when an image is read for CLIPScore, and candidates are ranked by CLIPScore + 0.5 *
SSIMScore. Winners are copied to a folder of their own, for they are the data set. So that both
sides do the same, candidates get seeds, there is no negative prompt, and the number of selected
captions is rounded up. There are no progress bars.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from skimage.metrics import structural_similarity
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from synthvlm import Recipe
from synthvlm.scorers.clip import ClipSettings
from synthvlm.scorers.ssim import SsimSettings

CAPTIONS_AT_A_TIME = 256
IMAGES_AT_A_TIME = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """A candidate, and where its image lies below the folder of images."""

    caption_id: str
    index: int
    caption: str
    seed: int
    image: str


@dataclass(frozen=True, slots=True)
class Score:
    """A scored candidate."""

    caption_id: str
    index: int
    image: str
    clip_score: float
    ssim_score: float
    score: float


class Clip:
    """A CLIP model as both loops have it: in half precision on a GPU."""

    def __init__(self, folder: Path, device: str) -> None:
        """Load it from its folder."""
        precision = torch.float32 if device == "cpu" else torch.float16
        self._model: Any = CLIPModel.from_pretrained(folder, dtype=precision).to(device).eval()
        self._tokenizer: Any = CLIPTokenizer.from_pretrained(folder)
        self.processor: Any = CLIPImageProcessorPil.from_pretrained(folder)

    @torch.inference_mode()
    def embed_captions(self, texts: Sequence[str]) -> np.ndarray:
        """Unit embeddings, a row each."""
        embeddings = []
        for start in range(0, len(texts), CAPTIONS_AT_A_TIME):
            inputs = self._tokenizer(
                list(texts[start : start + CAPTIONS_AT_A_TIME]),
                padding="max_length",
                truncation=True,
                max_length=self._model.config.text_config.max_position_embeddings,
                return_tensors="pt",
            ).to(self._model.device)
            embeddings.append(unit(self._model.get_text_features(**inputs).pooler_output))
        return np.vstack(embeddings)

    @torch.inference_mode()
    def embed_images(self, pixels: torch.Tensor) -> np.ndarray:
        """Unit embeddings of what the processor made of images, a row each."""
        inputs = pixels.to(self._model.device, self._model.dtype)
        return unit(self._model.get_image_features(pixel_values=inputs).pooler_output)


def load(recipe: Recipe, pipeline: Path, device: str) -> Any:
    """A pipeline in the recipe's dtype on a device."""
    loaded = DiffusionPipeline.from_pretrained(
        pipeline, dtype=getattr(torch, recipe.generation.dtype), use_safetensors=True
    ).to(device)
    loaded.set_progress_bar_config(disable=True)
    return loaded


class OfficialLoop:
    """The models; ``run`` goes through generation, scoring and selection."""

    def __init__(
        self, recipe: Recipe, pipeline: Path, clip: Path, *, device: str, loaders: int
    ) -> None:
        """Load the models.

        Args:
            recipe: Dtype, steps, guidance, size, image format, scores and share selected.
            pipeline: Folder of the diffusers pipeline.
            clip: Folder of the CLIP model.
            device: ``cpu`` or ``cuda``.
            loaders: Processes that read images; 0: this one.
        """
        self._recipe, self._loaders = recipe, loaders
        self._pipeline, self._clip = load(recipe, pipeline, device), Clip(clip, device)

    def run(
        self, entries: Sequence[Entry], out: Path
    ) -> tuple[list[Score], list[Score], list[Score]]:
        """Scores of all candidates; of the best one of each caption; of those of them selected.

        Args:
            entries: The candidates of a caption are neighbours.
            out: Folder to be made.
        """
        images = out / "images"
        self._generate(entries, images)
        scores = self._score(entries, images)
        (out / "scores.json").write_text(json.dumps([asdict(score) for score in scores], indent=4))
        winners = self._best(scores, images, out / "best")
        winners.sort(key=lambda score: score.score, reverse=True)
        share = self._recipe.selection.top_fraction or 1.0
        selected = winners[: math.ceil(round(share * len(winners), 6))]
        (out / "selected.json").write_text(
            json.dumps([asdict(score) for score in selected], indent=4)
        )
        return scores, winners, selected

    def _generate(self, entries: Sequence[Entry], images: Path) -> None:
        settings = self._recipe.generation
        for entry in entries:
            image = self._pipeline(
                prompt=entry.caption,
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance_scale,
                height=settings.height,
                width=settings.width,
                generator=torch.Generator("cpu").manual_seed(entry.seed),
            ).images[0]
            path = images / entry.image
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)

    def _score(self, entries: Sequence[Entry], images: Path) -> list[Score]:
        scorers = self._recipe.scorers
        clip_settings, ssim_settings = scorers["clip"], scorers["ssim"]
        assert isinstance(clip_settings, ClipSettings)
        assert isinstance(ssim_settings, SsimSettings)
        texts = self._clip.embed_captions(
            [clip_settings.prefix + entry.caption for entry in entries]
        )
        files = _ImageFiles(
            [images / entry.image for entry in entries],
            self._clip.processor,
            ssim_settings.side,
            ssim_settings.model_input_side,
        )
        pixels, ssim_scores = self._embed_images(files)
        clip_scores = np.clip((texts * pixels).sum(axis=1), 0.0, None)
        weights = clip_settings.weight, ssim_settings.weight
        return [
            Score(
                entry.caption_id,
                entry.index,
                entry.image,
                float(clip),
                float(ssim),
                float(weights[0] * clip + weights[1] * ssim),
            )
            for entry, clip, ssim in zip(entries, clip_scores, ssim_scores, strict=True)
        ]

    def _embed_images(self, files: _ImageFiles) -> tuple[np.ndarray, np.ndarray]:
        embeddings, ssim_scores = [], []
        for pixels, ssim in DataLoader(files, IMAGES_AT_A_TIME, num_workers=self._loaders):
            embeddings.append(self._clip.embed_images(pixels))
            ssim_scores.append(ssim.numpy())
        return np.vstack(embeddings), np.concatenate(ssim_scores)

    def _best(self, scores: Sequence[Score], images: Path, best: Path) -> list[Score]:
        best.mkdir()
        count = self._recipe.generation.candidates
        winners = [
            max(scores[start : start + count], key=lambda score: score.score)
            for start in range(0, len(scores), count)
        ]
        for number, winner in enumerate(winners):
            source = images / winner.image
            shutil.copyfile(source, best / f"{number:09d}{source.suffix}")
        return winners


class _ImageFiles(Dataset[tuple[torch.Tensor, float]]):
    """Images as CLIP wants them, with their SSIMScores."""

    def __init__(self, paths: list[Path], processor: Any, side: int, input_side: int) -> None:
        self._paths, self._processor = paths, processor
        self._side, self._input_side = side, input_side

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, float]:
        with Image.open(self._paths[number]) as file:
            image = file.convert("RGB")
        pixels = self._processor(images=image, return_tensors="pt")["pixel_values"][0]
        return pixels, ssim_score(image, self._side, self._input_side)


def ssim_score(image: Image.Image, side: int, input_side: int) -> float:
    """SSIM of an image with itself after a trip through a model's input size."""
    bilinear = Image.Resampling.BILINEAR
    before = image.resize((side, side), bilinear)
    after = before.resize((input_side, input_side), bilinear).resize((side, side), bilinear)
    grey = [np.asarray(picture.convert("L")) for picture in (before, after)]
    return float(structural_similarity(*grey))


def unit(features: torch.Tensor) -> np.ndarray:
    """Vectors of length 1."""
    vectors = features.float().cpu().numpy()
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
