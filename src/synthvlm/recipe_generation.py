"""The recipe's settings of generation: from a caption to the images of which one is kept."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from synthvlm.recipe_base import TINY, Settings
from synthvlm.recipe_endpoints import ImageEndpointSettings

__all__ = [
    "AdaptiveSettings",
    "GenerationSettings",
    "ImageSettings",
    "LoraSettings",
    "RefinerSettings",
    "SafetySettings",
]

#: What a setting of a scheduler or of a pipeline's call can be.
Value = bool | int | float | str | None


class LoraSettings(Settings):
    """A LoRA, added to the model's weights."""

    model: str = Field(min_length=1, description="Hub id, folder, or .safetensors file.")
    weight_name: str | None = Field(None, description="File, where there are several.")
    revision: str | None = None
    scale: float = 1.0


class RefinerSettings(Settings):
    """A second diffusion model that takes over the last denoising steps (SDXL)."""

    model: str = Field(min_length=1)
    revision: str | None = None
    variant: str | None = None
    denoising_split: float = Field(0.8, gt=0.0, lt=1.0, description="Share done by the base.")


class ImageSettings(Settings):
    """How winners are encoded."""

    format: Literal["png", "jpeg", "webp"] = "png"
    quality: int | None = Field(None, ge=1, le=100, description="JPEG and WebP; default 95.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.format == "png" and self.quality is not None:
            raise ValueError("png is lossless and has no quality: remove it or choose jpeg or webp")
        return self


#: Settings of generation that count where images come from an endpoint.
_OF_ENDPOINTS = {
    "model", "dtype", "height", "width", "candidates", "adaptive", "endpoint", "image",
    "safety",
}  # fmt: skip


class AdaptiveSettings(Settings):
    """Adaptive best-of-k: no more candidates of a caption once one's score is good enough."""

    threshold: float | None = Field(
        None, description="Score with which a caption is done; null: calibrated on a sample."
    )
    decay: float = Field(
        0.0, ge=0.0, description="How much lower the threshold is for every further candidate."
    )
    keep_gain: float = Field(
        0.9, gt=0.0, le=1.0, description="Share of best-of-k's gain that calibration keeps."
    )
    sample: int = Field(64, ge=8, description="Captions that calibration draws all candidates of.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.threshold is None and self.decay:
            raise ValueError("decay is of no use without threshold: calibration finds both")
        return self


class SafetySettings(Settings):
    """A check that rejects unsafe images."""

    model: str = Field(min_length=1, description="Hub id or folder of an image classifier.")
    revision: str | None = None
    labels: list[str] | None = Field(
        None, min_length=1, description="Unwanted labels; null: Stable Diffusion's own checker."
    )
    max_probability: float = Field(0.5, ge=0.0, lt=1.0, description="Of a label, that passes.")


class GenerationSettings(Settings):
    """Text to image."""

    model: str = Field(TINY, min_length=1, description="Hub id, local folder, or `tiny`.")
    revision: str | None = None
    variant: str | None = Field(None, description="Weight file variant on the hub, e.g. fp16.")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    drop_components: list[str] = Field(
        [], description="Parts not to load, e.g. [text_encoder_3, tokenizer_3] (SD3 without T5)."
    )
    steps: int = Field(20, ge=1)
    guidance_scale: float = Field(3.0, ge=0.0)
    negative_prompt: str | None = None
    max_sequence_length: int | None = Field(
        None, ge=1, description="Tokens of the T5 encoder (SD3, FLUX); default: the pipeline's."
    )
    height: int = Field(64, ge=8)
    width: int = Field(64, ge=8)
    scheduler: str | None = Field(
        None, description="Scheduler class of diffusers, e.g. LCMScheduler; null: the model's own."
    )
    scheduler_options: dict[str, Value] = Field(
        {}, description="Settings of the scheduler that are changed."
    )
    loras: list[LoraSettings] = Field([], description="Added to the model's weights.")
    call: dict[str, Value] = Field(
        {}, description="Further arguments of the pipeline's call, e.g. {true_cfg_scale: 4.0}."
    )
    quantization: Literal["int8", "float8"] | None = Field(
        None, description="Weights of the UNet or transformer in 8 bits."
    )
    offload: Literal["none", "model", "sequential"] = Field(
        "none", description="Hold what is not at work in the host's memory."
    )
    channels_last: bool = Field(False, description="Memory layout of convolutions.")
    vae_slicing: bool = Field(False, description="Decode one image at a time.")
    compile: bool = Field(False, description="Compile the UNet or transformer.")
    candidates: int = Field(4, ge=1, description="Images per caption, of which the best is kept.")
    adaptive: AdaptiveSettings | None = Field(
        None, description="Draw fewer candidates of captions that are done early; null: all."
    )
    endpoint: ImageEndpointSettings | None = Field(
        None, description="Draws by the model of that name there; null: the model runs here."
    )
    safety: SafetySettings | None = Field(None, description="Rejects unsafe images; null: off.")
    refiner: RefinerSettings | None = None
    image: ImageSettings = ImageSettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for side in ("height", "width"):
            if getattr(self, side) % 8:
                raise ValueError(f"{side} must be a multiple of 8, not {getattr(self, side)}")
        if self.refiner is not None and not round(self.steps * self.refiner.denoising_split) >= 1:
            raise ValueError("refiner.denoising_split leaves the base model no step")
        if self.endpoint is not None:
            for name, field in type(self).model_fields.items():
                if name not in _OF_ENDPOINTS and getattr(self, name) != field.get_default():
                    raise ValueError(
                        f"{name} is of no use with an endpoint: remove it; what its server takes "
                        f"goes into endpoint.extra"
                    )
        return self
