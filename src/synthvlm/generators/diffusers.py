"""Any text-to-image pipeline of diffusers, by hub id or folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

from synthvlm.errors import ModelError
from synthvlm.generators.base import GeneratedImages, Generator
from synthvlm.generators.failures import guarded, quiet
from synthvlm.generators.pipeline_classes import (
    AS_WRITTEN,
    call_parameters,
    check_guidance,
    check_sequence_length,
    check_text_to_image,
    images_of,
    pipeline_class,
    rewrites_prompts,
)
from synthvlm.generators.pipelines import (
    change_scheduler,
    check_call,
    check_offload,
    check_refiner,
    compile_denoiser,
    fuse_loras,
    is_seeded,
    lay_out_channels_last,
    load_pipeline,
    place,
    quantize_denoiser,
    replace_vae,
    slice_decoder,
)
from synthvlm.generators.prompt_encoding import PromptEncoder, watched
from synthvlm.generators.settings import DiffusersSettings, Lora, Refiner, Vae
from synthvlm.models.model_files import pipeline_path

if TYPE_CHECKING:
    import torch

    from synthvlm.components.component import LoadContext

__all__ = ["DiffusersGenerator"]


class DiffusersGenerator(Generator):
    """Generates images with a diffusers pipeline, and optionally an SDXL refiner after it.

    Each image has a CPU generator of its own, which serves its start noise and its step noise:
    an image does not depend on the batch it was generated in beyond rounding.

    Attributes:
        reproducible: Whether all noise comes from the seeds.
    """

    name: ClassVar[str] = "diffusers"

    @classmethod
    def load(cls, settings: Any, context: LoadContext) -> DiffusersGenerator:
        """Load what the section ``generation`` of a recipe names."""
        refiner = settings.refiner
        own = {f.name for f in fields(DiffusersSettings)} - {"device"}
        values = {name: getattr(settings, name) for name in own} | {
            "model": pipeline_path(settings.model),
            "vae": None if settings.vae is None else Vae(**settings.vae.model_dump()),
            "refiner": None if refiner is None else Refiner(**refiner.model_dump()),
            "loras": [Lora(**lora.model_dump()) for lora in settings.loras],
        }
        return cls(DiffusersSettings(device=context.device, **values))

    def __init__(self, settings: DiffusersSettings) -> None:
        """Load the pipeline.

        Args:
            settings: What is loaded, and how it generates.

        Raises:
            ModelError: The model cannot be found, is damaged, or is no such pipeline.
            RecipeError: A setting does not exist in this kind of pipeline, or on this device.
            MissingExtraError: A setting needs a library that is not installed.
        """
        refiner = settings.refiner
        self._size = {"height": settings.height, "width": settings.width}
        self._split = 1.0 if refiner is None else refiner.denoising_split
        check_offload(settings.device, settings.offload)
        check_text_to_image(pipeline_class(settings.model, settings.revision), settings.model)
        self._pipeline = load_pipeline(
            settings.model,
            dtype=settings.dtype,
            revision=settings.revision,
            variant=settings.variant,
            drop_components=settings.drop_components,
        )
        check_guidance(self._pipeline, settings.guidance_scale)
        if settings.max_sequence_length is not None:
            check_sequence_length(self._pipeline, settings.max_sequence_length)
        check_call(self._pipeline, settings.call)
        self._refiner = None
        if refiner is not None:
            self._refiner = load_pipeline(
                refiner.model,
                dtype=settings.dtype,
                revision=refiner.revision,
                variant=refiner.variant,
            )
            check_refiner(self._pipeline, settings.model, self._refiner, refiner.model)
        replace_vae(self._pipeline, settings.vae)
        fuse_loras(self._pipeline, settings.loras)
        for pipeline in self._pipelines():
            _prepare(pipeline, settings)
        self._calls = [_arguments(pipeline, settings) for pipeline in self._pipelines()]
        self.reproducible = all(map(is_seeded, self._pipelines())) and not any(
            map(rewrites_prompts, self._calls)
        )
        self._encoders = [
            PromptEncoder(
                pipeline,
                device=settings.device,
                call=call,
                negative_prompt=settings.negative_prompt,
            )
            for pipeline, call in zip(self._pipelines(), self._calls, strict=True)
        ]
        self._decoder_dtypes = [pipeline.vae.dtype for pipeline in self._with_decoder()]

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        """Generate one image for each (prompt, seed); prompts used last are not encoded again.

        An image is ``truncated`` if every text encoder saw only the beginning of its prompt: one
        that takes more (the T5 of SD3 and FLUX) makes up for the others.

        Raises:
            OutOfMemoryError: The batch is too large for the device.
            GenerationError: The pipeline failed on this batch.
            ModelError: The pipeline generates in another size than asked.
        """
        import torch

        with torch.inference_mode(), quiet():
            images, truncated, unsafe = guarded(
                type(self._pipeline).__name__,
                lambda: self._call_pipelines(prompts, seeds),
                self._recover,
            )
            self._check_size(images)
            finite = images.isfinite().flatten(1).all(1).tolist()
            pixels = (images.nan_to_num(0.0).clamp(0, 1) * 255).round().to(torch.uint8)
        problems = [None if good else "the image holds NaN or infinity" for good in finite]
        return GeneratedImages(pixels, tuple(problems), truncated, unsafe)

    def warm_up(self, batch_size: int) -> None:
        """Generate a batch for nothing: a compiled denoiser is then compiled for that batch size.

        Raises:
            GenerationError: As ``generate``.
        """
        self.generate(["a"] * batch_size, range(batch_size))

    def _call_pipelines(
        self, prompts: Sequence[str], seeds: Sequence[int]
    ) -> tuple[torch.Tensor, tuple[bool, ...], tuple[str | None, ...]]:
        """Images (n, 3, height, width), 0 .. 1; which prompts were cut off; which are unsafe."""
        import torch

        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        encoder = self._encoders[0]
        arguments, truncated = encoder.arguments(prompts)
        call = {**self._calls[0], **arguments, **self._size, "generator": generators}
        output: dict[str, Any] = {"output_type": "pt"}
        if self._refiner is not None:
            output = {"output_type": "latent", "denoising_end": self._split}
        with encoder.remembering(), watched(self._pipeline, encoder.max_sequence_length) as seen:
            returned = self._pipeline(**call, **output)
        images = images_of(returned)
        # The safety checker of SD 1.x, which a pipeline may hold, has then made the image black.
        flags = getattr(returned, "nsfw_content_detected", None) or ()
        unsafe = tuple("the pipeline's safety checker" if flag else None for flag in flags)
        if not encoder.encodes:
            truncated = seen.truncated(len(prompts))
        if self._refiner is None:
            return images, truncated, unsafe
        arguments, _ = self._encoders[1].arguments(prompts)
        with self._encoders[1].remembering():
            returned = self._refiner(
                **self._calls[1],
                **arguments,
                generator=generators,
                output_type="pt",
                image=images,
                denoising_start=self._split,
            )
        return images_of(returned), truncated, unsafe

    def _recover(self) -> None:
        """After a failure: decoders that were brought to single precision stayed there."""
        for pipeline in self._pipelines():
            pipeline.maybe_free_model_hooks()
        for pipeline, dtype in zip(self._with_decoder(), self._decoder_dtypes, strict=True):
            if pipeline.vae.dtype != dtype:
                pipeline.vae.to(dtype)

    def _check_size(self, images: torch.Tensor) -> None:
        height, width = images.shape[-2:]
        if {"height": height, "width": width} != self._size:
            raise ModelError(
                f"a {type(self._pipeline).__name__} generates {width} x {height} pixels where "
                f"generation asks for {self._size['width']} x {self._size['height']}: ask for that"
            )

    def _pipelines(self) -> list[Any]:
        return [self._pipeline] if self._refiner is None else [self._pipeline, self._refiner]

    def _with_decoder(self) -> list[Any]:
        return [pipeline for pipeline in self._pipelines() if hasattr(pipeline, "vae")]


def _prepare(pipeline: Any, settings: DiffusersSettings) -> None:
    """Change a loaded pipeline as the settings ask, and put it where it runs."""
    change_scheduler(pipeline, settings.scheduler, settings.scheduler_options)
    if settings.quantization is not None:
        device = "cpu" if settings.offload != "none" else settings.device
        quantize_denoiser(pipeline, settings.quantization, device)
    if settings.channels_last:
        lay_out_channels_last(pipeline)
    if settings.vae_slicing:
        slice_decoder(pipeline)
    place(pipeline, settings.device, settings.offload)
    if settings.compile:
        compile_denoiser(pipeline)


def _arguments(pipeline: Any, settings: DiffusersSettings) -> dict[str, Any]:
    """The arguments of all calls of a pipeline: of the settings, those that it takes."""
    accepted = call_parameters(pipeline)
    arguments = {
        **AS_WRITTEN,
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance_scale,
        **settings.call,
    }
    if settings.max_sequence_length is not None:
        arguments["max_sequence_length"] = settings.max_sequence_length
    return {name: value for name, value in arguments.items() if name in accepted}
