"""The settings of a diffusers generator: what is loaded, and how it generates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["DiffusersSettings", "Lora", "Refiner", "Vae", "Value"]

#: What a setting of a scheduler or of a pipeline's call can be.
Value = bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Refiner:
    """A second model (SDXL's refiner) that takes over the last denoising steps.

    Attributes:
        model: Hub id or folder.
        revision: Of the refiner on the hub.
        variant: Of its weight files, e.g. ``fp16``.
        denoising_split: Share (0 .. 1) of the denoising that the base does.
    """

    model: str
    revision: str | None = None
    variant: str | None = None
    denoising_split: float = 0.8


@dataclass(frozen=True, slots=True)
class Vae:
    """A decoder that takes the place of the model's own.

    Attributes:
        model: Hub id or folder.
        revision: On the hub.
        subfolder: Where it lies in there, e.g. ``vae``.
    """

    model: str
    revision: str | None = None
    subfolder: str | None = None


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA of a diffusion model.

    Attributes:
        model: Hub id, folder, or .safetensors file.
        weight_name: File in the hub's repository or the folder; None where there is only one.
        revision: On the hub.
        scale: How much of it is added; 1 is all.
    """

    model: str
    weight_name: str | None = None
    revision: str | None = None
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusersSettings:
    """How a diffusers pipeline is loaded, and how it generates.

    Attributes:
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
        vae: Decodes in place of the model's own, or None.
        refiner: Takes over the last steps, or None.
        scheduler: Scheduler class of diffusers, made from the settings of the pipeline's own,
            and of the refiner's.
        scheduler_options: Settings of the scheduler that are changed.
        loras: Added to the weights of the base.
        call: Further arguments of the pipeline's call, and of the refiner's where it has them.
        quantization: ``int8`` or ``float8``: weights of the denoisers' linear layers.
        offload: ``none``, ``model`` or ``sequential``: what is not at work is held in the host's
            memory.
        channels_last: Memory layout of 2-D convolutions.
        vae_slicing: Decode one image at a time.
        compile: Compile the denoisers; the first batch of a new shape then takes minutes.
    """

    model: str
    device: str
    dtype: str
    steps: int
    guidance_scale: float
    height: int
    width: int
    revision: str | None = None
    variant: str | None = None
    negative_prompt: str | None = None
    max_sequence_length: int | None = None
    drop_components: Sequence[str] = ()
    vae: Vae | None = None
    refiner: Refiner | None = None
    scheduler: str | None = None
    scheduler_options: Mapping[str, Value] = field(default_factory=dict)
    loras: Sequence[Lora] = ()
    call: Mapping[str, Value] = field(default_factory=dict)
    quantization: str | None = None
    offload: str = "none"
    channels_last: bool = False
    vae_slicing: bool = False
    compile: bool = False
