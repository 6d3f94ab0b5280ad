"""Any text-to-image pipeline of diffusers, by hub id or folder."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthvlm.errors import GenerationError, ModelError
from synthvlm.generators.base import GeneratedImages

if TYPE_CHECKING:
    import torch

__all__ = ["DiffusersGenerator"]

_CLASSIC = ("prompt_embeds", "negative_prompt_embeds")
_POOLED = (*_CLASSIC, "pooled_prompt_embeds", "negative_pooled_prompt_embeds")

#: What ``encode_prompt`` of a pipeline class returns, as arguments of its ``__call__``. A class
#: that is not listed gets plain prompts, and encodes a prompt for each of its images.
ENCODED_PROMPT = {
    "StableDiffusionPipeline": _CLASSIC,
    "StableDiffusionXLPipeline": _POOLED,
    "StableDiffusionXLImg2ImgPipeline": _POOLED,
    "StableDiffusion3Pipeline": _POOLED,
}

#: Schedulers that draw their step noise from a source of their own.
_UNSEEDED_SCHEDULERS = {"DPMSolverSDEScheduler", "CosineDPMSolverMultistepScheduler"}


class DiffusersGenerator:
    """Draws images with a diffusers pipeline, and optionally an SDXL refiner after it.

    Each image has a CPU generator of its own, which serves its start noise and its step noise:
    an image does not depend on the batch it was drawn in beyond rounding.
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
    ) -> None:
        """Load the pipeline.

        Args:
            model: Hub id or folder of a text-to-image pipeline.
            device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            dtype: ``float32``, ``float16`` or ``bfloat16``.
            steps: Denoising steps, base and refiner together.
            guidance_scale: Classifier-free guidance; 1 and below switch it off.
            height: In pixels.
            width: In pixels.
            revision: Of the model on the hub.
            variant: Of the weight files, e.g. ``fp16``.
            negative_prompt: What the images should not show.
            max_sequence_length: Tokens of the T5 encoder, where the pipeline has one.
            drop_components: Parts of the pipeline that are not loaded.
            refiner: Hub id or folder of an SDXL refiner.
            refiner_revision: Of the refiner on the hub.
            refiner_variant: Of the refiner's weight files.
            denoising_split: Share (0 .. 1) of the denoising that the base does.

        Raises:
            ModelError: The model cannot be found, is damaged, or is no such pipeline.
        """
        self._device = device
        self._dtype = dtype
        self._split = denoising_split
        self._pipeline = self._load(model, revision, variant, drop_components)
        self._settings: dict[str, Any] = {
            "num_inference_steps": steps,
            "guidance_scale": guidance_scale,
        }
        self._negative_prompt = negative_prompt
        accepted = inspect.signature(self._pipeline.__call__).parameters
        if "prompt" not in accepted or "image" in accepted:
            raise ModelError(
                f"{model} is a {type(self._pipeline).__name__}, not a text-to-image pipeline"
            )
        self._max_sequence_length = max_sequence_length
        if max_sequence_length is not None and "max_sequence_length" not in accepted:
            raise ModelError(
                f"{type(self._pipeline).__name__} has no generation.max_sequence_length: remove it"
            )
        self._size = {"height": height, "width": width}
        self._refiner = None
        if refiner is not None:
            if "denoising_end" not in accepted:
                raise ModelError(f"{model} cannot hand over to a refiner: remove it")
            self._refiner = self._load(refiner, refiner_revision, refiner_variant)
            if "denoising_start" not in inspect.signature(self._refiner.__call__).parameters:
                raise ModelError(f"{refiner} is a {type(self._refiner).__name__}, not a refiner")
        self._encoded: dict[str, dict[str, dict[str, torch.Tensor]]] = {}
        self.reproducible = all(
            type(p.scheduler).__name__ not in _UNSEEDED_SCHEDULERS for p in self._pipelines()
        )

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        """Draw one image for each (prompt, seed); equal neighbouring prompts are encoded once.

        Raises:
            GenerationError: The pipeline failed on this batch.
        """
        import torch

        with torch.inference_mode(), _quiet(), _explained(type(self._pipeline).__name__):
            generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
            arguments = {**self._settings, "generator": generators, "output_type": "pt"}
            if self._refiner is None:
                images = self._pipeline(
                    **self._prompts(self._pipeline, prompts), **self._size, **arguments
                ).images
            else:
                latents = self._pipeline(
                    **self._prompts(self._pipeline, prompts),
                    **self._size,
                    **{**arguments, "output_type": "latent"},
                    denoising_end=self._split,
                ).images
                images = self._refiner(
                    **self._prompts(self._refiner, prompts),
                    **arguments,
                    image=latents,
                    denoising_start=self._split,
                ).images
            finite = images.isfinite().flatten(1).all(1).tolist()
            pixels = (images.nan_to_num(0.0).clamp(0, 1) * 255).round().to(torch.uint8)
        problems = tuple(None if good else "the image holds NaN or infinity" for good in finite)
        return GeneratedImages(pixels, problems)

    def _pipelines(self) -> list[Any]:
        return [self._pipeline] if self._refiner is None else [self._pipeline, self._refiner]

    def _load(
        self,
        model: str,
        revision: str | None,
        variant: str | None,
        drop_components: Sequence[str] = (),
    ) -> Any:
        import torch
        from diffusers import DiffusionPipeline

        if Path(model).is_dir() and not (Path(model) / "model_index.json").is_file():
            raise ModelError(f"{model} holds no model_index.json: not a diffusers pipeline")
        try:
            with _quiet():
                pipeline = DiffusionPipeline.from_pretrained(
                    model,
                    revision=revision,
                    variant=variant,
                    dtype=getattr(torch, self._dtype),
                    use_safetensors=True,
                    **dict.fromkeys(drop_components),
                )
                return self._prepared(pipeline)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(
                f"cannot load the diffusion model {model}: {_first_line(error)} "
                f"(`synthvlm doctor` checks what is reachable; weights must be safetensors)"
            ) from error

    def _prepared(self, pipeline: Any) -> Any:
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(self._device)

    def _prompts(self, pipeline: Any, prompts: Sequence[str]) -> dict[str, Any]:
        """The arguments of a pipeline's call that stand for the prompts."""
        import torch

        kind = type(pipeline).__name__
        names = ENCODED_PROMPT.get(kind)
        if names is None:
            plain: dict[str, Any] = {"prompt": list(prompts)}
            accepted = inspect.signature(pipeline.__call__).parameters
            if self._negative_prompt is not None and "negative_prompt" in accepted:
                plain["negative_prompt"] = [self._negative_prompt] * len(prompts)
            if self._max_sequence_length is not None:
                plain["max_sequence_length"] = self._max_sequence_length
            return plain
        known = self._encoded.get(kind, {})
        unique = list(dict.fromkeys(prompts))
        fresh = [prompt for prompt in unique if prompt not in known]
        if fresh:
            known = {**known, **self._encode(pipeline, names, fresh)}
        # Candidates of a caption are neighbours: what this batch does not use is not used again.
        known = self._encoded[kind] = {prompt: known[prompt] for prompt in unique}
        used = [name for name in names if name in known[prompts[0]]]
        return {name: torch.stack([known[prompt][name] for prompt in prompts]) for name in used}

    def _encode(
        self, pipeline: Any, names: Sequence[str], prompts: list[str]
    ) -> dict[str, dict[str, torch.Tensor]]:
        accepted = inspect.signature(pipeline.encode_prompt).parameters
        arguments: dict[str, Any] = {"prompt": prompts, "device": self._device}
        for extra in ("prompt_2", "prompt_3"):
            if extra in accepted:
                arguments[extra] = prompts
        arguments["num_images_per_prompt"] = 1
        arguments["do_classifier_free_guidance"] = self._settings["guidance_scale"] > 1
        if self._negative_prompt is not None:
            arguments["negative_prompt"] = [self._negative_prompt] * len(prompts)
        if self._max_sequence_length is not None and "max_sequence_length" in accepted:
            arguments["max_sequence_length"] = self._max_sequence_length
        values = dict(zip(names, pipeline.encode_prompt(**arguments), strict=True))
        return {
            prompt: {name: value[row] for name, value in values.items() if value is not None}
            for row, prompt in enumerate(prompts)
        }


@contextlib.contextmanager
def _explained(kind: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise GenerationError(f"{kind} failed: {_first_line(error)}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' loading bars and remarks out of our display."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    loggings = (diffusers_logging, transformers_logging)
    levels = [logging.get_verbosity() for logging in loggings]
    for logging in loggings:
        logging.disable_progress_bar()
        logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        for logging, level in zip(loggings, levels, strict=True):
            logging.set_verbosity(level)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
