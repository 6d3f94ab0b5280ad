"""``synthvlm cost``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from synthvlm.captions.decoding import decode_image
from synthvlm.captions.writers import DEFAULT_IMAGE_PROMPT
from synthvlm.cost.captioning import Images, captioning_cost, read_images_of
from synthvlm.cost.comparison import Cost
from synthvlm.cost.route import route_cost
from synthvlm.devices import resolve_device
from synthvlm.model_files import vision_language_path
from synthvlm.planning import device_name, tried

if TYPE_CHECKING:
    from PIL.Image import Image

    from synthvlm.progress import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.store import RunFolder

__all__ = ["cost_command"]


def cost_command(
    recipe: Recipe,
    captioner: str,
    *,
    images: str | None = None,
    pairs: int = 16,
    batch_size: int = 4,
    max_new_tokens: int = 100,
    prompt: str | None = None,
    revision: str | None = None,
    as_json: bool = False,
    progress: Progress,
) -> str:
    """Measure what a usable pair takes, drawn by the recipe and captioned by a model.

    Args:
        recipe: The route that draws images.
        captioner: Hub id, folder, or output folder of ``synthvlm train``.
        images: Folder of images to caption; None for those that the trial drew.
        pairs: Captions to draw, and images to caption, at most.
        batch_size: Images that the captioner is given at a time.
        max_new_tokens: Longest caption.
        prompt: What the captioner is asked; None for the built-in request.
        revision: Of the captioner on the hub.
        as_json: Plain values instead of a table.
        progress: Shows the work.

    Returns:
        What to print.

    Raises:
        RecipeError: The recipe yields no pair.
        ModelError: A model cannot be loaded.
        CaptionSourceError: There are no images to caption, or all captions are empty.
    """
    import torch

    from synthvlm.vlm import VisionLanguageModel, check_model

    path = vision_language_path(captioner)
    check_model(path, revision)  # before a trial of minutes
    given = None if images is None else read_images_of(images, pairs)
    with tried(recipe, pairs, progress) as (trial, run):
        route = route_cost(trial)
        used = given or _drawn(run, pairs)
    device = resolve_device(recipe.run.device)

    def load() -> Callable[[Sequence[Image]], Sequence[str]]:
        model = VisionLanguageModel(path, device=device, revision=revision)
        asked = prompt or DEFAULT_IMAGE_PROMPT
        return lambda some: model.answer(some, [asked] * len(some), max_new_tokens=max_new_tokens)

    captioning = captioning_cost(load, used.images, batch_size=batch_size, progress=progress)
    cost = Cost(
        device_name(recipe),
        torch.get_num_threads() if device == "cpu" else None,
        captioner,
        "the images that the trial drew" if images is None else images,
        route,
        captioning,
        used.bad,
    )
    return json.dumps(cost.values()) if as_json else cost.text()


def _drawn(run: RunFolder, count: int) -> Images:
    """The pairs' images of a trial."""
    images: list[Image] = []
    for _, marker in sorted(run.markers("generate").items()):
        name = marker.file("pairs")
        if name is not None:
            images += map(decode_image, run.read_table(name, ["image"])["image"].to_pylist())
    return Images(tuple(images[:count]), ())
