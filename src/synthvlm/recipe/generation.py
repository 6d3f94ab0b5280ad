"""The recipe's settings of generation: from a caption to the images of which one is kept."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from synthvlm.components.settings import TINY, InHash, ModelName, Settings
from synthvlm.endpoints.connection import ImageEndpointSettings
from synthvlm.generators import GENERATORS

__all__ = [
    "SHARED_SETTINGS",
    "AdaptiveSettings",
    "FaceSettings",
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

    model: Annotated[str, ModelName()] = Field(
        min_length=1, description="Hub id, folder, or .safetensors file."
    )
    weight_name: str | None = Field(None, description="File, where there are several.")
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    scale: Annotated[float, InHash.ALWAYS] = Field(1.0, description="Strength; 1: as trained.")


class VaeSettings(Settings):
    """A decoder in place of the model's own, e.g. one that does not overflow in float16."""

    model: Annotated[str, ModelName()] = Field(min_length=1, description="Hub id or folder.")
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    subfolder: str | None = Field(None, description="Where it lies in there, e.g. vae.")


class RefinerSettings(Settings):
    """A second diffusion model that takes over the last denoising steps (SDXL)."""

    model: Annotated[str, ModelName()] = Field(min_length=1, description="Hub id or local folder.")
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    variant: str | None = Field(None, description="Weight file variant on the hub, e.g. fp16.")
    denoising_split: Annotated[float, InHash.ALWAYS] = Field(
        0.8, gt=0.0, lt=1.0, description="Share done by the base."
    )


class ImageSettings(Settings):
    """How winners are encoded."""

    format: Annotated[Literal["png", "jpeg", "webp"], InHash.ALWAYS] = Field(
        "png", description="png: lossless."
    )
    quality: int | None = Field(None, ge=1, le=100, description="JPEG and WebP; default 95.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.format == "png" and self.quality is not None:
            raise ValueError("png is lossless and has no quality: remove it or choose jpeg or webp")
        return self


#: Settings of generation that count whatever makes the images; and those of an endpoint besides.
SHARED_SETTINGS = {"generator", "options", "dtype", "candidates", "adaptive", "image"}
SHARED_SETTINGS |= {"safety", "faces"}
_OF_ENDPOINTS = SHARED_SETTINGS | {"model", "height", "width", "endpoint"}


class AdaptiveSettings(Settings):
    """Adaptive best-of-k: no more candidates of a caption once one's score is good enough."""

    threshold: float | None = Field(
        None, description="Score with which a caption is done; null: calibrated on a sample."
    )
    decay: float = Field(
        0.0, ge=0.0, description="How much lower the threshold is for every further candidate."
    )
    keep_gain: Annotated[float, InHash.ALWAYS] = Field(
        0.9, gt=0.0, le=1.0, description="Share of best-of-k's gain that calibration keeps."
    )
    sample: Annotated[int, InHash.ALWAYS] = Field(
        64, ge=8, description="Captions that calibration generates all candidates of."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.threshold is None and self.decay:
            raise ValueError("decay is of no use without threshold: calibration finds both")
        return self


class SafetySettings(Settings):
    """A check that rejects unsafe images."""

    model: Annotated[str, ModelName()] = Field(
        min_length=1, description="Hub id or folder of an image classifier."
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    labels: list[str] | None = Field(
        None, min_length=1, description="Unwanted labels; null: Stable Diffusion's own checker."
    )
    max_probability: Annotated[float, InHash.ALWAYS] = Field(
        0.5, ge=0.0, lt=1.0, description="Of a label, that passes."
    )


class FaceSettings(Settings):
    """A check that rejects images of people, by the faces that an object detector sees."""

    model: Annotated[str, ModelName()] = Field(
        min_length=1, description="Hub id or folder of an object-detection model."
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    labels: list[str] | None = Field(
        None, min_length=1, description="Its labels of faces; null: it has a single one."
    )
    max: Annotated[int, InHash.ALWAYS] = Field(0, ge=0, description="Faces that pass.")
    threshold: Annotated[float, InHash.ALWAYS] = Field(
        0.5, ge=0.0, lt=1.0, description="Score above which a detection counts."
    )


class GenerationSettings(Settings):
    """Text to image."""

    generator: Annotated[str, InHash.NEVER] = Field(
        "diffusers", description="Name of a generator; `endpoint` follows from the setting below."
    )
    options: Annotated[dict[str, Any], InHash.NEVER] = Field(
        {}, description="Settings of a plug-in's generator; then those below do not count."
    )
    model: Annotated[str, ModelName("pipeline"), InHash.ALWAYS] = Field(
        TINY, min_length=1, description="Hub id, local folder, or `tiny`."
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    variant: str | None = Field(None, description="Weight file variant on the hub, e.g. fp16.")
    dtype: Annotated[Literal["auto", "float32", "float16", "bfloat16"], InHash.ALWAYS] = Field(
        "auto", description="What models run in; auto: what suits the device."
    )
    drop_components: list[str] = Field(
        [], description="Parts not to load, e.g. [text_encoder_3, tokenizer_3] (SD3 without T5)."
    )
    steps: Annotated[int, InHash.ALWAYS] = Field(20, ge=1, description="Denoising steps.")
    guidance_scale: Annotated[float, InHash.ALWAYS] = Field(
        3.0, ge=0.0, description="Of classifier-free guidance, as the pipeline understands it."
    )
    negative_prompt: str | None = Field(None, description="What images should not show.")
    max_sequence_length: int | None = Field(
        None, ge=1, description="Tokens of the T5 encoder (SD3, FLUX); default: the pipeline's."
    )
    height: Annotated[int, InHash.ALWAYS] = Field(64, ge=8, description="Pixels.")
    width: Annotated[int, InHash.ALWAYS] = Field(64, ge=8, description="Pixels.")
    scheduler: str | None = Field(
        None, description="Scheduler class of diffusers, e.g. LCMScheduler; null: the model's own."
    )
    scheduler_options: dict[str, Value] = Field(
        {}, description="Settings of the scheduler that are changed."
    )
    vae: VaeSettings | None = Field(None, description="A decoder in place of the model's own.")
    loras: list[LoraSettings] = Field([], description="Added to the model's weights.")
    call: dict[str, Value] = Field(
        {}, description="Further arguments of the pipeline's call, e.g. {true_cfg_scale: 4.0}."
    )
    quantization: Literal["int8", "float8"] | None = Field(
        None, description="Weights of the UNet or transformer in 8 bits."
    )
    offload: Annotated[Literal["none", "model", "sequential"], InHash.NEVER] = Field(
        "none", description="Hold what is not at work in the host's memory."
    )
    channels_last: Annotated[bool, InHash.NEVER] = Field(
        False, description="Memory layout of convolutions."
    )
    vae_slicing: Annotated[bool, InHash.NEVER] = Field(
        False, description="Decode one image at a time."
    )
    compile: bool = Field(False, description="Compile the UNet or transformer.")
    candidates: Annotated[int, InHash.NEVER] = Field(
        4, ge=1, description="Images per caption, of which the best is kept."
    )
    adaptive: Annotated[AdaptiveSettings | None, InHash.NEVER] = Field(
        None, description="Generate fewer candidates of captions that are done early; null: all."
    )
    endpoint: ImageEndpointSettings | None = Field(
        None, description="The model of that name there generates; null: the model runs here."
    )
    safety: SafetySettings | None = Field(None, description="Rejects unsafe images; null: off.")
    faces: FaceSettings | None = Field(None, description="Rejects images of faces; null: off.")
    refiner: RefinerSettings | None = None
    image: Annotated[ImageSettings, InHash.NEVER] = ImageSettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for side in ("height", "width"):
            if getattr(self, side) % 8:
                raise ValueError(f"{side} must be a multiple of 8, not {getattr(self, side)}")
        if self.refiner is not None and not round(self.steps * self.refiner.denoising_split) >= 1:
            raise ValueError("refiner.denoising_split leaves the base model no step")
        if self.endpoint is not None:
            self._refuse_unused(
                _OF_ENDPOINTS, "an endpoint: remove it; what its server takes goes into "
                "endpoint.extra"
            )  # fmt: skip
        if self.generator not in ("diffusers", "endpoint"):
            GENERATORS.settings(self.generator, self.options, ("generator",), ("options",))
            advice = f"generator {self.generator!r}: remove it; its own settings go into options"
            self._refuse_unused(SHARED_SETTINGS, advice)
        elif self.options:
            raise ValueError("options are for a generator of a plug-in: remove them")
        elif self.generator == "endpoint" and self.endpoint is None:
            raise ValueError("generator: endpoint needs the setting endpoint, e.g. {url: ...}")
        return self

    def counts(self, name: str) -> bool:
        """Whether a setting of this section counts with the generator that the recipe has."""
        used = {"diffusers": set(type(self).model_fields), "endpoint": _OF_ENDPOINTS}
        return name in used.get(self.generator_name, SHARED_SETTINGS)

    def _refuse_unused(self, used: set[str], advice: str) -> None:
        for name, field in type(self).model_fields.items():
            if name not in used and getattr(self, name) != field.get_default():
                raise ValueError(f"{name} is of no use with {advice}")

    @property
    def generator_name(self) -> str:
        """Name of the generator in its table."""
        return self.generator if self.endpoint is None else "endpoint"

    @property
    def generator_settings(self) -> Settings:
        """The settings of the generator; those of the built-in ones are this section."""
        if self.generator_name in ("diffusers", "endpoint"):
            return self
        return GENERATORS.settings(self.generator, self.options)
