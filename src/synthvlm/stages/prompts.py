"""What the images of a shard depend on: its prompts, and the fingerprints of generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.data import fingerprint
from synthvlm.model_files import clip_path, model_identity, pipeline_path

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.store import Marker, RunFolder

__all__ = [
    "STAGE",
    "Prompt",
    "image_fingerprint",
    "prompts_of",
    "read_prompts",
    "shard_fingerprint",
]

STAGE = "generate"
#: Settings of generation that an image does not depend on, beyond rounding.
_NOT_PIXELS = {"candidates", "adaptive", "image", "offload", "vae_slicing", "channels_last"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A curated caption, with the fingerprint that its images depend on."""

    id: str
    text: str
    fingerprint: str


def read_prompts(run: RunFolder, captions: Marker, shared: str) -> list[Prompt]:
    """The kept captions of a shard, in order."""
    name = captions.file("captions")
    if name is None:
        return []
    return prompts_of(run.read_table(name, ["id", "text", "kept"]), shared)


def prompts_of(captions: pa.Table, shared: str) -> list[Prompt]:
    """The kept ones of some rows of ``captions/``, in order."""
    return [
        Prompt(row["id"], row["text"], fingerprint(shared, row["id"], row["text"]))
        for row in captions.select(["id", "text", "kept"]).to_pylist()
        if row["kept"]
    ]


def image_fingerprint(recipe: Recipe) -> str:
    """What every image and its scores depend on, beside the caption and the index."""
    settings = recipe.generation
    image = settings.model_dump(exclude=_NOT_PIXELS, mode="json")
    scoring = recipe.scoring.model_dump(mode="json")
    for scorer in scoring.values():
        del scorer["weight"]
    if settings.endpoint is None:
        image["model"] = model_identity(pipeline_path(settings.model))
    else:
        endpoint = settings.endpoint
        image["endpoint"] = (endpoint.send_seed, endpoint.extra)
    if settings.safety is not None:
        image["safety"]["model"] = model_identity(settings.safety.model)
    if settings.refiner is not None:
        image["refiner"]["model"] = model_identity(settings.refiner.model)
    for lora in image["loras"]:
        lora["model"] = model_identity(lora["model"])
    scoring["clip"]["model"] = model_identity(clip_path(recipe.scoring.clip.model))
    return fingerprint("image", recipe.seed, image, scoring)


def _choice(recipe: Recipe) -> tuple[object, ...]:
    """What the choice among scored candidates and the winner's file depend on."""
    scoring, settings = recipe.scoring, recipe.generation
    image = settings.image
    return (
        settings.candidates,
        (scoring.clip.weight, scoring.ssim.weight),
        (image.format, image.quality),
    )


def shard_fingerprint(
    recipe: Recipe, shared: str, thresholds: tuple[float, ...] | None, prompts: Sequence[Prompt]
) -> str:
    """What a whole shard depends on: its prompts, and the choice among their candidates."""
    choice = (*_choice(recipe), thresholds)
    return fingerprint(STAGE, shared, choice, [p.fingerprint for p in prompts])
