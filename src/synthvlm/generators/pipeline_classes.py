"""What is known of a pipeline from its class alone, before its weights are loaded."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthvlm.errors import ModelError, RecipeError, first_line
from synthvlm.generators.failures import quiet
from synthvlm.models.model_files import check_model_name
from synthvlm.models.remote_errors import hub_reason

__all__ = [
    "AS_WRITTEN",
    "call_parameters",
    "check_guidance",
    "check_sequence_length",
    "check_text_to_image",
    "images_of",
    "pipeline_class",
    "rewrites_prompts",
    "runs_in_bfloat16",
]

#: Arguments of a call by which an image is made from the prompt as it is, in the size asked for:
#: PixArt and DeepFloyd clean prompts, ERNIE and LongCat have a language model rewrite them.
AS_WRITTEN: Mapping[str, Any] = {
    "use_resolution_binning": False,
    "clean_caption": False,
    "use_pe": False,
    "enable_prompt_rewrite": False,
}
_REWRITING = ("use_pe", "enable_prompt_rewrite")

#: Classes whose call takes an image and does without one.
_IMAGE_IS_OPTIONAL = {
    "Flux2KleinPipeline",
    "Flux2Pipeline",
    "ZImageOmniPipeline",
}
#: Classes that make images from text, and cannot be used; why.
_UNUSABLE = {
    "FluxKontextPipeline": "it makes a million pixels whatever size is asked for",
    "GlmImagePipeline": "its language model samples from a random source that takes no seed",
    "QwenImage21Pipeline": "it is not supported yet (Qwen/Qwen-Image is)",
}
#: Arguments by which a call makes something else than images.
_OTHER_MEDIA = {
    "audio_end_in_s": "audio",
    "audio_length_in_s": "audio",
    "frame_size": "3D objects",
    "frames": "videos",
    "num_frames": "videos",
    "video_length": "videos",
}
#: Beginnings of the names of classes whose weights overflow in float16, or were trained and are
#: published in bfloat16.
_BFLOAT16 = (
    "AuraFlow", "Bria", "Chroma", "CogView4", "ErnieImage", "Flux", "HiDream", "Kandinsky5",
    "LongCat", "Lumina2", "Ovis", "PRX", "QwenImage", "Sana", "ZImage",
)  # fmt: skip


def pipeline_class(model: str, revision: str | None = None) -> type:
    """The class that a pipeline says it is of; only its ``model_index.json`` is read.

    Args:
        model: Hub id or folder.
        revision: Of the model on the hub.

    Raises:
        ModelError: The model cannot be found, or diffusers has no such class.
    """
    check_model_name(model)
    if Path(model).is_dir() and not (Path(model) / "model_index.json").is_file():
        raise ModelError(f"{model} holds no model_index.json: not a diffusers pipeline")
    try:
        with quiet():
            import diffusers

            config = diffusers.DiffusionPipeline.load_config(model, revision=revision)
            name = config["_class_name"]
            # A list names code in the model's own folder, which is never run.
            kind = getattr(diffusers, name, None) if isinstance(name, str) else None
    except Exception as error:
        raise ModelError(
            f"cannot load the diffusion model {model}: {_reason(error)} "
            f"(`synthvlm doctor` checks what is reachable)"
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, diffusers.DiffusionPipeline)):
        raise ModelError(
            f"{model} is a {name}, which diffusers {diffusers.__version__} does not have: a newer "
            f"one may (pip install -U diffusers)"
        )
    return kind


def _reason(error: Exception) -> str:
    """Why; diffusers says of each file that it cannot fetch that the model does not have it."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    own = error.__context__
    return hub_reason(own) if isinstance(own, LocalEntryNotFoundError) else first_line(error)


def call_parameters(pipeline: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of the call of a pipeline, or of its class, by name."""
    return inspect.signature(pipeline.__call__).parameters


def check_text_to_image(kind: type, model: str) -> None:
    """Check that the pipelines of a class generate images from a prompt alone.

    Raises:
        ModelError: They do not; the message says why.
    """
    name, accepted = kind.__name__, call_parameters(kind)
    required = [
        one.name
        for one in accepted.values()
        if one.default is one.empty
        and one.kind is one.POSITIONAL_OR_KEYWORD
        and one.name not in ("self", "prompt")
    ]
    media = [other for argument, other in _OTHER_MEDIA.items() if argument in accepted]
    if name in _UNUSABLE:
        why = _UNUSABLE[name]
    elif "prompt" not in accepted:
        why = "it takes no prompt"
    elif media:
        why = f"it makes {media[0]}"
    elif required:
        why = f"it needs {', '.join(required)} besides a prompt"
    elif "image" in accepted and name not in _IMAGE_IS_OPTIONAL:
        why = "it changes an image that it is given"
    else:
        return
    raise ModelError(f"{model} is a {name}, which cannot be used for text to image: {why}")


def check_guidance(pipeline: Any, scale: float) -> None:
    """Check that a pipeline obeys a guidance scale; 0 and 1 mean none everywhere.

    Raises:
        RecipeError: It ignores the scale.
    """
    if scale in (0.0, 1.0):
        return
    kind, config = type(pipeline).__name__, pipeline.config
    transformer = getattr(getattr(pipeline, "transformer", None), "config", {})
    embedded = "guidance_embeds" in transformer and "true_cfg_scale" in call_parameters(pipeline)
    if "guidance_scale" not in call_parameters(pipeline):
        why = f"a {kind} takes none"
    elif config.get("is_distilled"):
        why = f"this {kind} is distilled and ignores it"
    elif embedded and not transformer["guidance_embeds"]:
        why = f"this {kind} ignores it"
    else:
        return
    hint = " (it has generation.call.true_cfg_scale)" if embedded else ""
    raise RecipeError(
        f"generation.guidance_scale={scale:g}: {why}{hint}: --set generation.guidance_scale=1"
    )


def check_sequence_length(pipeline: Any, length: int) -> None:
    """Check that a pipeline has an encoder whose number of tokens can be set to that.

    Raises:
        ModelError: It has none.
        RecipeError: The number is too large.
    """
    kind = type(pipeline).__name__
    if "max_sequence_length" not in call_parameters(pipeline):
        raise ModelError(f"{kind} has no generation.max_sequence_length: remove it")
    check = getattr(pipeline, "check_inputs", None)
    if check is None:
        return
    accepted = inspect.signature(check).parameters
    if "max_sequence_length" not in accepted:
        return
    # The pipeline's own check, which else would speak after all has been loaded.
    known = {"prompt": "a", "height": 1024, "width": 1024, "max_sequence_length": length}
    arguments = {
        name: known.get(name)
        for name, one in accepted.items()
        if name in known or one.default is one.empty
    }
    try:
        check(**arguments)
    except ValueError as error:
        if "max_sequence_length" not in str(error):
            return
        limit = re.search(r"than (\d+)", str(error))
        most = "" if limit is None else f": --set generation.max_sequence_length={limit[1]}"
        raise RecipeError(
            f"generation.max_sequence_length={length} is more than a {kind} takes{most}"
        ) from None
    except Exception:  # of arguments that are not known here; the call checks again
        return


def rewrites_prompts(arguments: Mapping[str, Any]) -> bool:
    """Whether the arguments of a call have a language model rewrite the prompts."""
    return any(arguments.get(name) for name in _REWRITING)


def images_of(output: Any) -> Any:
    """The images in what a pipeline returns: most say ``images``, Kandinsky 5 says ``image``.

    Raises:
        ModelError: It holds none.
    """
    for name in ("images", "image"):
        images = getattr(output, name, None)
        if images is not None:
            return images
    raise ModelError(f"a pipeline returned a {type(output).__name__}, which holds no images")


def runs_in_bfloat16(kind: type) -> bool:
    """Whether pipelines of a class are to run in bfloat16 on a GPU, not in float16."""
    return kind.__name__.startswith(_BFLOAT16)
