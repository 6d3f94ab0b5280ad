"""Pipelines of diffusers: loaded, checked, changed as settings ask, and put where they run."""

from __future__ import annotations

import importlib.util
import inspect
import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthvlm.errors import MissingExtraError, ModelError, RecipeError, first_line
from synthvlm.generators.failures import quiet
from synthvlm.generators.pipeline_classes import call_parameters, pipeline_class
from synthvlm.generators.settings import Lora, Vae
from synthvlm.models.model_files import check_model_name
from synthvlm.models.pretrained import cannot_load

if TYPE_CHECKING:
    import torch

__all__ = [
    "change_scheduler",
    "check_call",
    "check_offload",
    "check_refiner",
    "compile_denoiser",
    "fuse_loras",
    "is_seeded",
    "lay_out_channels_last",
    "load_pipeline",
    "place",
    "quantize_denoiser",
    "replace_vae",
    "slice_decoder",
]

#: Arguments of a call that are set by other means, or not by a plain value.
_OWN_ARGUMENTS = {
    "callback", "callback_on_step_end", "callback_on_step_end_tensor_inputs", "callback_steps",
    "clean_caption", "crops_coords_top_left", "denoising_end", "denoising_start", "generator",
    "guidance_scale", "height", "image", "kwargs", "latents", "max_sequence_length", "mu",
    "num_images_per_prompt", "num_inference_steps", "output_type", "return_dict", "self", "sigmas",
    "timesteps", "use_resolution_binning", "width",
}  # fmt: skip

#: Ways to hold weights smaller, by the name of torchao's configuration. They are brought back to
#: the pipeline's dtype at each use.
_QUANTIZATIONS = {"int8": "Int8WeightOnlyConfig", "float8": "Float8WeightOnlyConfig"}

#: Schedulers that take their step noise from a random source of their own.
_UNSEEDED = {"DPMSolverSDEScheduler", "CosineDPMSolverMultistepScheduler"}


def load_pipeline(
    model: str,
    *,
    dtype: str,
    revision: str | None = None,
    variant: str | None = None,
    drop_components: Sequence[str] = (),
) -> Any:
    """Load a pipeline into the host's memory.

    Args:
        model: Hub id or folder.
        dtype: ``float32``, ``float16`` or ``bfloat16``.
        revision: Of the model on the hub.
        variant: Of the weight files, e.g. ``fp16``.
        drop_components: Parts that are not loaded.

    Raises:
        ModelError: It cannot be found, or is damaged.
    """
    import torch

    pipeline_class(model, revision)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of diffusers, about diffusers
            from diffusers import DiffusionPipeline

            pipeline = DiffusionPipeline.from_pretrained(
                model,
                revision=revision,
                variant=variant,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                **dict.fromkeys(drop_components),
            )
    except Exception as error:
        raise cannot_load("diffusion", model, error) from error
    pipeline.set_progress_bar_config(disable=True)
    # Where the library `invisible-watermark` is installed, SDXL's pipelines would change pixels.
    if getattr(pipeline, "watermark", None) is not None:
        pipeline.watermark = None
    return pipeline


def replace_vae(pipeline: Any, vae: Vae | None) -> None:
    """Give a pipeline another decoder of the class of its own.

    Raises:
        ModelError: It cannot be found, is damaged, or the pipeline has none.
    """
    if vae is None:
        return
    own = getattr(pipeline, "vae", None)
    check_model_name(vae.model)
    if own is None:
        raise ModelError(f"generation.vae: a {type(pipeline).__name__} has none: remove it")
    try:
        with quiet():
            loaded = type(own).from_pretrained(
                vae.model,
                revision=vae.revision,
                subfolder=vae.subfolder,
                torch_dtype=own.dtype,
                use_safetensors=True,
            )
    except Exception as error:
        raise ModelError(
            f"cannot load the {type(own).__name__} {vae.model}: {first_line(error)}"
        ) from error
    if loaded.config.latent_channels != own.config.latent_channels:
        raise ModelError(
            f"the VAE {vae.model} has {loaded.config.latent_channels} latent channels, that of the "
            f"model {own.config.latent_channels}: it is for another model"
        )
    pipeline.vae = loaded


def check_refiner(pipeline: Any, model: str, refiner: Any, refiner_model: str) -> None:
    """Check that one pipeline can hand over to another part-way.

    Raises:
        ModelError: It cannot.
    """
    if "denoising_end" not in call_parameters(pipeline):
        raise ModelError(f"{model} cannot hand over to a refiner: remove it")
    if "denoising_start" not in call_parameters(refiner):
        raise ModelError(f"{refiner_model} is a {type(refiner).__name__}, not a refiner")


def check_call(pipeline: Any, call: Mapping[str, Any]) -> None:
    """Check that a pipeline's call takes further arguments.

    Raises:
        RecipeError: It does not take one of them, or that one is set by other means.
    """
    valid = sorted(
        name
        for name in call_parameters(pipeline)
        if name not in _OWN_ARGUMENTS
        and not name.endswith(("_embeds", "_mask", "_kwargs"))
        and not name.startswith(("prompt", "negative_prompt", "ip_adapter", "negative_ip_adapter"))
    )
    for name in call:
        if name not in valid:
            raise RecipeError(
                f"generation.call.{name}: a {type(pipeline).__name__} has no such setting"
                f"{_nearest(name, valid)}"
            )


def check_offload(device: str, offload: str) -> None:
    """Check that there is a device to offload from.

    Raises:
        RecipeError: There is none.
    """
    if offload != "none" and device == "cpu":
        raise RecipeError("generation.offload is for a GPU: set it to none, or run.device")


def change_scheduler(pipeline: Any, name: str | None, options: Mapping[str, Any]) -> None:
    """Give a pipeline another scheduler, made from the settings of its own.

    Args:
        pipeline: The pipeline.
        name: A scheduler class of diffusers; None for the pipeline's own.
        options: Settings that are changed.

    Raises:
        RecipeError: There is no such scheduler, or it has no such setting.
    """
    import diffusers

    if name is None and not options:
        return
    own = pipeline.scheduler
    valid = sorted(each for each in dir(diffusers) if each.endswith("Scheduler"))
    if name is not None and name not in valid:
        hint = _did_you_mean(name, valid) or " (names end in Scheduler)"
        raise RecipeError(f"generation.scheduler: diffusers has no {name}{hint}")
    kind = type(own) if name is None else getattr(diffusers, name)
    settings = sorted(inspect.signature(kind.__init__).parameters.keys() - {"self"})
    for option in options:
        if option not in settings:
            raise RecipeError(
                f"generation.scheduler_options.{option}: a {kind.__name__} has no such setting"
                f"{_nearest(option, settings)}"
            )
    try:
        with quiet():
            pipeline.scheduler = kind.from_config(own.config, **options)
    except (ImportError, TypeError, ValueError, NotImplementedError) as error:
        raise RecipeError(
            f"generation.scheduler: cannot make a {kind.__name__}: {first_line(error)}"
        ) from error


def is_seeded(pipeline: Any) -> bool:
    """Whether all noise of a pipeline's steps comes from the generators that it is given."""
    scheduler = pipeline.scheduler
    if type(scheduler).__name__ in _UNSEEDED:
        return False
    # The only pipelines whose steps get no generator are those of flow matching, whose own
    # schedulers add no noise by default.
    adds_noise = scheduler.config.get("stochastic_sampling", False)
    return not adds_noise or hasattr(pipeline, "prepare_extra_step_kwargs")


def _denoiser(pipeline: Any) -> torch.nn.Module:
    """The UNet or transformer of a pipeline.

    Raises:
        ModelError: It has neither.
    """
    for name in ("transformer", "unet"):
        module: torch.nn.Module | None = getattr(pipeline, name, None)
        if module is not None:
            return module
    raise ModelError(f"a {type(pipeline).__name__} has no single UNet or transformer to change")


def quantize_denoiser(pipeline: Any, kind: str, device: str) -> None:
    """Hold the weights of the denoiser's linear layers in 8 bits.

    Args:
        pipeline: A pipeline in the host's memory.
        kind: ``int8`` or ``float8``.
        device: Where the work is done, layer by layer.

    Raises:
        MissingExtraError: ``torchao`` is not installed.
        ModelError: Nothing of it can be quantized.
    """
    if importlib.util.find_spec("torchao") is None:
        raise MissingExtraError(
            "generation.quantization needs torchao: pip install 'synthvlm[quantization]'"
        )
    module = _denoiser(pipeline)
    before = {name: type(weight) for name, weight in module.named_parameters()}
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torchao import quantization

            config = getattr(quantization, _QUANTIZATIONS[kind])()
            quantization.quantize_(module, config, device=device)
    except Exception as error:
        raise ModelError(f"cannot quantize the denoiser to {kind}: {first_line(error)}") from error
    if all(type(weight) is before[name] for name, weight in module.named_parameters()):
        raise ModelError(f"nothing of the {type(module).__name__} can be quantized to {kind}")


def lay_out_channels_last(pipeline: Any) -> None:
    """Lay the weights of 2-D convolutions out with their channels last, which GPUs prefer."""
    import torch

    for module in (_denoiser(pipeline), pipeline.vae):
        for weight in module.parameters():
            if weight.dim() == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def compile_denoiser(pipeline: Any) -> None:
    """Compile the denoiser; the first batch of a new shape then takes minutes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about torch
        _denoiser(pipeline).compile()


def place(pipeline: Any, device: str, offload: str) -> None:
    """Put a pipeline where it runs.

    Args:
        pipeline: The pipeline, in the host's memory.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        offload: ``none``; ``model``: one part at a time is on the device; ``sequential``: one
            layer at a time.

    Raises:
        ModelError: The pipeline cannot be put there.
    """
    try:
        if offload == "model":
            pipeline.enable_model_cpu_offload(device=device)
        elif offload == "sequential":
            pipeline.enable_sequential_cpu_offload(device=device)
        else:
            pipeline.to(device)
    except Exception as error:
        raise ModelError(
            f"cannot put the {type(pipeline).__name__} on {device}: {first_line(error)} "
            "(generation.offload and generation.quantization need less memory)"
        ) from error


def slice_decoder(pipeline: Any) -> None:
    """Have a pipeline decode one image at a time.

    Raises:
        RecipeError: It cannot.
    """
    try:
        pipeline.vae.enable_slicing()
    except (AttributeError, NotImplementedError):
        kind = type(pipeline).__name__
        raise RecipeError(f"generation.vae_slicing: a {kind} cannot, set it to false") from None


def _nearest(name: str, valid: Sequence[str]) -> str:
    """The end of a message about an unknown name: the nearest valid one, or all."""
    return _did_you_mean(name, valid) or f" (valid: {', '.join(valid)})"


def _did_you_mean(name: str, valid: Sequence[str]) -> str | None:
    """The end of a message about an unknown name: the nearest valid one; None: none is near."""
    close = get_close_matches(name, valid, n=1)
    return f", did you mean {close[0]!r}?" if close else None


def fuse_loras(pipeline: Any, loras: Sequence[Lora]) -> None:
    """Add LoRAs to a pipeline's weights, so that they cost nothing per step.

    Raises:
        MissingExtraError: ``peft`` is not installed.
        ModelError: A LoRA cannot be found, or does not fit the pipeline.
    """
    if not loras:
        return
    if importlib.util.find_spec("peft") is None:
        raise MissingExtraError("generation.loras needs peft: pip install 'synthvlm[lora]'")
    kind = type(pipeline).__name__
    if not hasattr(pipeline, "load_lora_weights"):
        raise ModelError(f"generation.loras: a {kind} takes no LoRA: remove them")
    names = [f"lora_{number}" for number in range(len(loras))]
    for name, lora in zip(names, loras, strict=True):
        _load_lora(pipeline, lora, name)
    try:
        with quiet():
            pipeline.set_adapters(names, [lora.scale for lora in loras])
            pipeline.fuse_lora(adapter_names=names)
            pipeline.unload_lora_weights()
    except Exception as error:
        raise ModelError(
            f"cannot add the LoRAs to the {kind}: {first_line(error)}: are they for this model?"
        ) from error


def _load_lora(pipeline: Any, lora: Lora, name: str) -> None:
    model, weight_name = lora.model, lora.weight_name
    if Path(model).is_file():
        model, weight_name = str(Path(model).parent), Path(model).name
    # Despite use_safetensors, diffusers unpickles a named file with another ending.
    if weight_name is not None and not weight_name.endswith(".safetensors"):
        raise ModelError(
            f"cannot load the LoRA {lora.model}: weights must be safetensors, not {weight_name}"
        )
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is more than one
            pipeline.load_lora_weights(
                model,
                weight_name=weight_name,
                revision=lora.revision,
                adapter_name=name,
                use_safetensors=True,
            )
            fits = any(name in adapters for adapters in pipeline.get_list_adapters().values())
    except Exception as error:
        raise ModelError(f"cannot load the LoRA {lora.model}: {first_line(error)}") from error
    if not fits:
        raise ModelError(
            f"the LoRA {lora.model} changes nothing in a {type(pipeline).__name__}: it is for "
            "another model"
        )
