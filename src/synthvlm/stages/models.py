"""From the recipe's names to loaded components: the one place that knows the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.devices import resolve_device
from synthvlm.model_files import clip_path, pipeline_path

if TYPE_CHECKING:
    from synthvlm.generators.base import Generator
    from synthvlm.generators.endpoint import EndpointGenerator
    from synthvlm.generators.settings import DiffusersSettings
    from synthvlm.recipe import Recipe
    from synthvlm.recipe_endpoints import ImageEndpointSettings
    from synthvlm.recipe_generation import GenerationSettings, SafetySettings
    from synthvlm.scorers.clip import ClipScorer
    from synthvlm.scorers.image_checks import ImageCheck
    from synthvlm.scorers.ssim import SsimScorer

__all__ = ["Models"]


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
    settings = recipe.generation
    if settings.endpoint is not None:
        return _endpoint_generator(settings, settings.endpoint)
    from synthvlm.generators.diffusers import DiffusersGenerator

    return DiffusersGenerator(_diffusers_settings(settings, device))


def _diffusers_settings(settings: GenerationSettings, device: str) -> DiffusersSettings:
    from synthvlm.generators.loras import Lora
    from synthvlm.generators.settings import DiffusersSettings, Refiner

    refiner = settings.refiner
    return DiffusersSettings(
        model=pipeline_path(settings.model),
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
        refiner=None if refiner is None else Refiner(**refiner.model_dump()),
        scheduler=settings.scheduler,
        scheduler_options=settings.scheduler_options,
        loras=[Lora(**lora.model_dump()) for lora in settings.loras],
        call=settings.call,
        quantization=settings.quantization,
        offload=settings.offload,
        channels_last=settings.channels_last,
        vae_slicing=settings.vae_slicing,
        compile=settings.compile,
    )


def _endpoint_generator(
    settings: GenerationSettings, endpoint: ImageEndpointSettings
) -> EndpointGenerator:
    from synthvlm.generators.endpoint import EndpointGenerator
    from synthvlm.stages.endpoint_clients import image_client

    return EndpointGenerator(
        image_client(endpoint, settings.model),
        width=settings.width,
        height=settings.height,
        response_format=endpoint.response_format,
        send_seed=endpoint.send_seed,
        extra=endpoint.extra,
    )
