"""Any text-to-image pipeline of diffusers, by hub id or folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from synthvlm.errors import ModelError
from synthvlm.generators.base import GeneratedImages
from synthvlm.generators.denoiser import (
    compile_denoiser,
    lay_out_channels_last,
    quantize_denoiser,
)
from synthvlm.generators.failures import guarded, quiet
from synthvlm.generators.loras import Lora, fuse_loras
from synthvlm.generators.pipelines import (
    call_parameters,
    check_call,
    check_offload,
    check_refiner,
    check_sequence_length,
    check_text_to_image,
    load_pipeline,
    place,
    slice_decoder,
)
from synthvlm.generators.prompt_encoding import PromptEncoder
from synthvlm.generators.schedulers import change_scheduler, is_seeded
from synthvlm.generators.token_limits import watched

if TYPE_CHECKING:
    import torch

__all__ = ["DiffusersGenerator"]


class DiffusersGenerator:
    """Draws images with a diffusers pipeline, and optionally an SDXL refiner after it.

    Each image has a CPU generator of its own, which serves its start noise and its step noise:
    an image does not depend on the batch it was drawn in beyond rounding.

    Attributes:
        reproducible: Whether all noise comes from the seeds.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str,
        dtype: str,
        steps: int,
        guidance_scale: float,
        height: int,
        width: int,
        revision: str | None = None,
        variant: str | None = None,
        negative_prompt: str | None = None,
        max_sequence_length: int | None = None,
        drop_components: Sequence[str] = (),
        refiner: str | None = None,
        refiner_revision: str | None = None,
        refiner_variant: str | None = None,
        denoising_split: float = 0.8,
        scheduler: str | None = None,
        scheduler_options: Mapping[str, bool | int | float | str | None] | None = None,
        loras: Sequence[Lora] = (),
        call: Mapping[str, bool | int | float | str | None] | None = None,
        quantization: str | None = None,
        offload: str = "none",
        channels_last: bool = False,
        vae_slicing: bool = False,
        compile: bool = False,
    ) -> None:
        """Load the pipeline.

        Args:
            model: Hub id or folder of a text-to-image pipeline.
            device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            dtype: ``float32``, ``float16`` or ``bfloat16``.
            steps: Denoising steps, base and refiner together.
            guidance_scale: As the pipeline understands it, for pipelines that take one.
            height: In pixels.
            width: In pixels.
            revision: Of the model on the hub.
            variant: Of the weight files, e.g. ``fp16``.
            negative_prompt: What the images should not show.
            max_sequence_length: Tokens of the T5 or language-model encoder, where there is one.
            drop_components: Parts of the pipeline that are not loaded.
            refiner: Hub id or folder of an SDXL refiner.
            refiner_revision: Of the refiner on the hub.
            refiner_variant: Of the refiner's weight files.
            denoising_split: Share (0 .. 1) of the denoising that the base does.
            scheduler: Scheduler class of diffusers, made from the settings of the pipeline's own,
                and of the refiner's.
            scheduler_options: Settings of the scheduler that are changed.
            loras: Added to the weights of the base.
            call: Further arguments of the pipeline's call, and of the refiner's where it has them.
            quantization: ``int8`` or ``float8``: weights of the denoisers' linear layers.
            offload: ``none``, ``model`` or ``sequential``: what is not at work is held in the
                host's memory.
            channels_last: Memory layout of 2-D convolutions.
            vae_slicing: Decode one image at a time.
            compile: Compile the denoisers; the first batch of a new shape then takes minutes.

        Raises:
            ModelError: The model cannot be found, is damaged, or is no such pipeline.
            RecipeError: A setting does not exist in this kind of pipeline, or on this device.
            MissingExtraError: A setting needs a library that is not installed.
        """
        self._size = {"height": height, "width": width}
        self._split = denoising_split
        check_offload(device, offload)
        self._pipeline = load_pipeline(
            model, dtype=dtype, revision=revision, variant=variant, drop_components=drop_components
        )
        check_text_to_image(self._pipeline, model)
        settings = {"num_inference_steps": steps, "guidance_scale": guidance_scale, **(call or {})}
        if max_sequence_length is not None:
            check_sequence_length(self._pipeline)
            settings["max_sequence_length"] = max_sequence_length
        check_call(self._pipeline, call or {})
        self._refiner = None
        if refiner is not None:
            self._refiner = load_pipeline(
                refiner, dtype=dtype, revision=refiner_revision, variant=refiner_variant
            )
            check_refiner(self._pipeline, model, self._refiner, refiner)
        fuse_loras(self._pipeline, loras)
        for pipeline in self._pipelines():
            change_scheduler(pipeline, scheduler, scheduler_options or {})
            if quantization is not None:
                quantize_denoiser(pipeline, quantization, "cpu" if offload != "none" else device)
            if channels_last:
                lay_out_channels_last(pipeline)
            if vae_slicing:
                slice_decoder(pipeline)
            place(pipeline, device, offload)
            if compile:
                compile_denoiser(pipeline)
        self.reproducible = all(is_seeded(pipeline) for pipeline in self._pipelines())
        self._calls = [_arguments(pipeline, settings) for pipeline in self._pipelines()]
        self._encoders = [
            PromptEncoder(pipeline, device=device, call=call, negative_prompt=negative_prompt)
            for pipeline, call in zip(self._pipelines(), self._calls, strict=True)
        ]
        self._decoder_dtypes = [pipeline.vae.dtype for pipeline in self._with_decoder()]

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        """Draw one image for each (prompt, seed); equal neighbouring prompts are encoded once.

        An image is ``truncated`` if every text encoder saw only the beginning of its prompt: one
        that takes more (the T5 of SD3 and FLUX) makes up for the others.

        Raises:
            OutOfMemoryError: The batch is too large for the device.
            GenerationError: The pipeline failed on this batch.
            ModelError: The pipeline draws in another size than asked.
        """
        import torch

        with torch.inference_mode(), quiet():
            images, truncated = guarded(
                type(self._pipeline).__name__,
                lambda: self._draw(prompts, seeds),
                self._recover,
            )
            self._check_size(images)
            finite = images.isfinite().flatten(1).all(1).tolist()
            pixels = (images.nan_to_num(0.0).clamp(0, 1) * 255).round().to(torch.uint8)
        problems = [None if good else "the image holds NaN or infinity" for good in finite]
        return GeneratedImages(pixels, tuple(problems), truncated)

    def warm_up(self, batch_size: int) -> None:
        """Draw a batch for nothing: a compiled denoiser is then compiled for that batch size.

        Raises:
            GenerationError: As ``generate``.
        """
        self.generate(["a"] * batch_size, range(batch_size))

    def _draw(
        self, prompts: Sequence[str], seeds: Sequence[int]
    ) -> tuple[torch.Tensor, tuple[bool, ...]]:
        """Images (n, 3, height, width), 0 .. 1; and which prompts were cut off."""
        import torch

        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        encoder = self._encoders[0]
        arguments, truncated = encoder.arguments(prompts)
        call = {**self._calls[0], **arguments, **self._size, "generator": generators}
        output: dict[str, Any] = {"output_type": "pt"}
        if self._refiner is not None:
            output = {"output_type": "latent", "denoising_end": self._split}
        with watched(self._pipeline, encoder.max_sequence_length) as seen:
            images = self._pipeline(**call, **output).images
        if not encoder.encodes:
            truncated = seen.truncated(len(prompts))
        if self._refiner is None:
            return images, truncated
        arguments, _ = self._encoders[1].arguments(prompts)
        images = self._refiner(
            **self._calls[1],
            **arguments,
            generator=generators,
            output_type="pt",
            image=images,
            denoising_start=self._split,
        ).images
        return images, truncated

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
                f"a {type(self._pipeline).__name__} draws {width} x {height} pixels where "
                f"generation asks for {self._size['width']} x {self._size['height']}: ask for that"
            )

    def _pipelines(self) -> list[Any]:
        return [self._pipeline] if self._refiner is None else [self._pipeline, self._refiner]

    def _with_decoder(self) -> list[Any]:
        return [pipeline for pipeline in self._pipelines() if hasattr(pipeline, "vae")]


def _arguments(pipeline: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of all calls of a pipeline: of the settings, those that it takes."""
    accepted = call_parameters(pipeline)
    # Images are drawn in the size that is asked for, from the prompt as it is.
    fixed = {"use_resolution_binning": False, "clean_caption": False}
    return {name: value for name, value in {**fixed, **settings}.items() if name in accepted}
