"""From the recipe's names to loaded components: the one place that knows the tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthvlm.data import digest
from synthvlm.errors import ModelError
from synthvlm.recipe import TINY

if TYPE_CHECKING:
    from synthvlm.generators.base import Generator
    from synthvlm.generators.endpoint import EndpointGenerator
    from synthvlm.recipe import Recipe
    from synthvlm.recipe_endpoints import ImageEndpointSettings
    from synthvlm.recipe_generation import GenerationSettings, SafetySettings
    from synthvlm.scorers.clip import ClipScorer
    from synthvlm.scorers.image_checks import ImageCheck
    from synthvlm.scorers.ssim import SsimScorer

__all__ = ["Models", "clip_path", "model_identity", "pipeline_path", "resolve_device"]

_SAMPLE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Models:
    """The loaded models of a generation worker."""

    generator: Generator
    clip: ClipScorer
    ssim: SsimScorer
    image_check: ImageCheck | None = None

    @classmethod
    def load(cls, recipe: Recipe) -> Models:
        """Load what the recipe names.

        Raises:
            ModelError: A model cannot be found or loaded.
        """
        import torch

        from synthvlm.scorers.clip import ClipScorer
        from synthvlm.scorers.ssim import SsimScorer

        if isinstance(recipe.run.threads, int):
            torch.set_num_threads(recipe.run.threads)
        device = resolve_device(recipe.run.device)
        clip, ssim = recipe.scoring.clip, recipe.scoring.ssim
        scorer = ClipScorer(
            clip_path(clip.model), device=device, revision=clip.revision, prefix=clip.prefix
        )
        return cls(
            _generator(recipe, device),
            scorer,
            SsimScorer(side=ssim.side, model_input_side=ssim.model_input_side),
            _image_check(recipe.generation.safety, device),
        )


def _image_check(safety: SafetySettings | None, device: str) -> ImageCheck | None:
    from synthvlm.scorers.image_checks import load_image_check

    if safety is None:
        return None
    return load_image_check(
        safety.model,
        labels=safety.labels,
        max_probability=safety.max_probability,
        device=device,
        revision=safety.revision,
    )


def _generator(recipe: Recipe, device: str) -> Generator:
    settings, refiner = recipe.generation, recipe.generation.refiner
    if settings.endpoint is not None:
        return _endpoint_generator(settings, settings.endpoint)
    from synthvlm.generators.diffusers import DiffusersGenerator
    from synthvlm.generators.loras import Lora

    return DiffusersGenerator(
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
        scheduler=settings.scheduler,
        scheduler_options=settings.scheduler_options,
        loras=[Lora(**lora.model_dump()) for lora in settings.loras],
        call=settings.call,
        quantization=settings.quantization,
        offload=settings.offload,
        channels_last=settings.channels_last,
        vae_slicing=settings.vae_slicing,
        compile=settings.compile,
        screened=settings.early_rejection is not None,
    )


def _endpoint_generator(
    settings: GenerationSettings, endpoint: ImageEndpointSettings
) -> EndpointGenerator:
    from synthvlm.endpoints.images import ImageClient
    from synthvlm.generators.endpoint import EndpointGenerator

    client = ImageClient(
        endpoint.url,
        settings.model,
        api_key_env=endpoint.api_key_env,
        concurrency=endpoint.concurrency,
        timeout_s=endpoint.timeout_s,
        max_requests=endpoint.max_requests,
    )
    return EndpointGenerator(
        client,
        width=settings.width,
        height=settings.height,
        response_format=endpoint.response_format,
        send_seed=endpoint.send_seed,
        extra=endpoint.extra,
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
    """The device that ``auto`` stands for here: a GPU if there is one.

    Raises:
        ModelError: There is no GPU of that number.
    """
    import torch

    number = re.fullmatch(r"cuda:(\d+)", device)
    if number is not None and 0 < torch.cuda.device_count() <= int(number[1]):
        raise ModelError(
            f"run.device is {device}, and this process has {torch.cuda.device_count()} GPUs, "
            f"counted from 0: each of several workers has one of its own; set run.device=auto"
        )
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
    """What a model is, for fingerprints: a hub id's name, or the content of a folder or file.

    Of a folder the names and sizes of its files count, and the first and last MiB of each, so
    that a moved folder is the same model and a changed one is not.
    """
    folder = Path(path)
    if not folder.exists():
        return path
    files = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else [folder]
    parts: list[bytes] = []
    for file in files:
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
