"""Dropping images part-way through their denoising, by a preview of the clean image.

The preview is the clean image that the model predicts at that step, decoded. What is dropped is
cut out of the batch, so that the steps left cost less.
"""

from __future__ import annotations

import inspect
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from synthvlm.errors import ModelError
from synthvlm.generators.base import Screen

if TYPE_CHECKING:
    import torch

__all__ = ["Screening", "check_can_screen"]

#: Pipelines that hand all tensors of a batch to their callback, which can then make it smaller.
_PIPELINES = {
    "StableDiffusionPipeline": ("latents", "prompt_embeds"),
    "StableDiffusionXLPipeline": ("latents", "prompt_embeds", "add_text_embeds", "add_time_ids"),
    "StableDiffusion3Pipeline": ("latents", "prompt_embeds", "pooled_prompt_embeds"),
}
#: Schedulers that add no noise and remember nothing of a batch, and tell the clean image.
_SCHEDULERS = {"DDIMScheduler", "EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"}


def check_can_screen(pipeline: Any) -> None:
    """Check that images of a pipeline can be dropped part-way.

    Raises:
        ModelError: They cannot; the message says of which they can.
    """
    kind, scheduler = type(pipeline).__name__, type(pipeline.scheduler).__name__
    if kind not in _PIPELINES:
        raise ModelError(
            f"generation.early_rejection: images of a {kind} cannot be dropped part-way, only "
            f"those of {', '.join(sorted(_PIPELINES))}"
        )
    if scheduler not in _SCHEDULERS:
        raise ModelError(
            f"generation.early_rejection: {scheduler} cannot go on with fewer images, only "
            f"{', '.join(sorted(_SCHEDULERS))} can; set generation.scheduler"
        )
    denoiser = getattr(pipeline, "unet", None)
    if denoiser is not None and denoiser.config.get("time_cond_proj_dim") is not None:
        raise ModelError("generation.early_rejection: not for models with a guidance embedding")


class Screening:
    """One call of a pipeline under a screen; use it as a context manager around the call.

    Attributes:
        kept: Numbers of the images that are finished, ascending.
    """

    def __init__(self, pipeline: Any, screen: Screen, count: int, steps: int) -> None:
        """Prepare a call for ``count`` images of ``steps`` steps."""
        self._pipeline, self._screen = pipeline, screen
        # The first step at the earliest; the last one would have nothing left to save.
        self._step = min(max(round(screen.share * steps), 1), steps - 1) - 1
        self._clean: torch.Tensor | None = None
        self.kept = list(range(count))

    @property
    def arguments(self) -> dict[str, Any]:
        """What the pipeline is to be called with."""
        if self._step < 0:
            return {}
        return {
            "callback_on_step_end": self._after_step,
            "callback_on_step_end_tensor_inputs": list(_PIPELINES[type(self._pipeline).__name__]),
        }

    def __enter__(self) -> Self:
        """Listen to the scheduler."""
        self._plain_step = self._pipeline.scheduler.step
        self._signature = inspect.signature(self._plain_step)
        self._pipeline.scheduler.step = self._listening_step
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the scheduler as it was."""
        del self._pipeline.scheduler.step

    def _listening_step(self, *arguments: Any, **named: Any) -> Any:
        """The scheduler's own step, with a note of the clean image that it predicts."""
        scheduler = self._pipeline.scheduler
        given = self._signature.bind(*arguments, **named).arguments
        if type(scheduler).__name__ == "FlowMatchEulerDiscreteScheduler":
            result = self._plain_step(*arguments, **named)
            sigma = scheduler.sigmas[scheduler.step_index - 1]
            self._clean = given["sample"] - sigma * given["model_output"]
            return result
        result = self._plain_step(*arguments, **{**named, "return_dict": True})
        self._clean = result.pred_original_sample
        return (result.prev_sample,)

    def _after_step(
        self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        if step != self._step:
            return {}
        assert self._clean is not None
        keep = self._screen.keep(_decoded(pipeline, self._clean))
        count = len(self.kept)
        self.kept = [number for number in self.kept if keep[number]]
        if not self.kept:
            pipeline._interrupt = True  # nothing is left to do
            return {}
        return {name: _rows(tensor, count, self.kept) for name, tensor in tensors.items()}


def _rows(tensor: torch.Tensor, count: int, kept: list[int]) -> torch.Tensor:
    """The kept images of a tensor that holds them once, or once for each half of the guidance."""
    parts = tensor.reshape(-1, count, *tensor.shape[1:])
    return parts[:, kept].reshape(-1, *tensor.shape[1:])


def _decoded(pipeline: Any, clean: torch.Tensor) -> torch.Tensor:
    """Latents as images: uint8, shape (n, 3, height, width)."""
    import torch

    vae = pipeline.vae
    # Half precision overflows in the decoder of SDXL, which says so.
    upcast = vae.dtype == torch.float16 and vae.config.get("force_upcast")
    if upcast:
        vae.to(torch.float32)
    shift = vae.config.get("shift_factor") or 0.0
    latents = clean.to(vae.dtype) / vae.config.scaling_factor + shift
    images = vae.decode(latents, return_dict=False)[0]
    if upcast:
        vae.to(torch.float16)
    pixels: torch.Tensor = (images.float() / 2 + 0.5).nan_to_num(0.0).clamp(0, 1) * 255
    return pixels.round().to(torch.uint8)
