"""From the recipe's names to loaded components: the one place that knows the tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthvlm.data import digest
from synthvlm.recipe import TINY

if TYPE_CHECKING:
    from synthvlm.generators.base import Generator
    from synthvlm.recipe import Recipe
    from synthvlm.scorers.clip import ClipScorer
    from synthvlm.scorers.ssim import SsimScorer

__all__ = ["Models", "clip_path", "model_identity", "pipeline_path", "resolve_device"]

_SAMPLE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Models:
    """The loaded models of a generation worker."""

    generator: Generator
    clip: ClipScorer
    ssim: SsimScorer

    @classmethod
    def load(cls, recipe: Recipe) -> Models:
        """Load what the recipe names.

        Raises:
            ModelError: A model cannot be found or loaded.
        """
        import torch

        from synthvlm.generators.diffusers import DiffusersGenerator
        from synthvlm.scorers.clip import ClipScorer
        from synthvlm.scorers.ssim import SsimScorer

        if isinstance(recipe.run.threads, int):
            torch.set_num_threads(recipe.run.threads)
        device = resolve_device(recipe.run.device)
        settings, refiner = recipe.generation, recipe.generation.refiner
        clip, ssim = recipe.scoring.clip, recipe.scoring.ssim
        scorer = ClipScorer(
            clip_path(clip.model), device=device, revision=clip.revision, prefix=clip.prefix
        )
        generator = DiffusersGenerator(
            pipeline_path(settings.model),
            device=device,
            dtype=settings.dtype,
            steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            height=settings.height,
            width=settings.width,
            revision=settings.revision,
            variant=settings.variant,
            negative_prompt=settings.negative_prompt,
            max_sequence_length=settings.max_sequence_length,
            drop_components=settings.drop_components,
            refiner=refiner.model if refiner else None,
            refiner_revision=refiner.revision if refiner else None,
            refiner_variant=refiner.variant if refiner else None,
            denoising_split=refiner.denoising_split if refiner else 0.8,
        )
        return cls(
            generator, scorer, SsimScorer(side=ssim.side, model_input_side=ssim.model_input_side)
        )


def pipeline_path(model: str) -> str:
    """Hub id or folder of a diffusion pipeline; ``tiny`` is the embedded one."""
    from synthvlm import tiny

    return str(tiny.pipeline_path()) if model == TINY else model


def clip_path(model: str) -> str:
    """Hub id or folder of a CLIP model; ``tiny`` is the embedded one."""
    from synthvlm import tiny

    return str(tiny.clip_path()) if model == TINY else model


def resolve_device(device: str) -> str:
    """The device that ``auto`` stands for here: a GPU if there is one."""
    import torch

    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def resolve_dtype(dtype: str, device: str) -> str:
    """The dtype that ``auto`` stands for: half precision on a GPU, single elsewhere."""
    if dtype != "auto":
        return dtype
    return "float16" if resolve_device(device).startswith("cuda") else "float32"


def model_identity(path: str) -> str:
    """What a model is, for fingerprints: a hub id's name, or a folder's content.

    Of a folder the names and sizes of its files count, and the first and last MiB of each, so
    that a moved folder is the same model and a changed one is not.
    """
    folder = Path(path)
    if not folder.is_dir():
        return path
    parts: list[bytes] = []
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        size = file.stat().st_size
        if file.suffix not in (".json", ".safetensors", ".txt", ".model"):
            continue
        with file.open("rb") as stream:
            head = stream.read(_SAMPLE_BYTES)
            stream.seek(max(0, size - _SAMPLE_BYTES))
            tail = stream.read(_SAMPLE_BYTES)
        parts.append(f"{file.relative_to(folder)}\0{size}\0".encode())
        parts += [head, tail]
    return digest(parts)
