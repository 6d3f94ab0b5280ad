"""``synthvlm cost``: the two routes measured and set side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthvlm.captions.readers.images import decode_image
from synthvlm.captions.writers.image_captions import DEFAULT_IMAGE_PROMPT
from synthvlm.estimates import Estimate, aligned, quantity, range_of
from synthvlm.models.devices import resolve_device
from synthvlm.models.model_files import vision_language_path
from synthvlm.planning.cost_captioning import (
    CaptioningCost,
    Images,
    captioning_cost,
    read_images_of,
)
from synthvlm.planning.cost_route import RouteCost, route_cost
from synthvlm.planning.extrapolation import Line
from synthvlm.planning.plan import device_name, tried
from synthvlm.progress.terminal import printable

if TYPE_CHECKING:
    from PIL.Image import Image

    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["Cost", "cost_command", "ratio_of"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a usable pair takes on each route.

    Attributes:
        device: That both ran on.
        threads: Of a CPU; None elsewhere.
        captioner: The model that captioned.
        images: Which images it was given, in words.
        route: The route that draws images.
        captioning: The route that captions them.
        bad: Images that could not be captioned, and why.
    """

    device: str
    threads: int | None
    captioner: str
    images: str
    route: RouteCost
    captioning: CaptioningCost
    bad: Sequence[str]

    @property
    def ratio(self) -> Estimate:
        """Seconds of the drawing route over those of captioning."""
        return ratio_of(self.route.seconds, self.captioning.seconds)

    def lines(self) -> Iterator[Line]:
        """The figures, in the order of the table."""
        route, other = self.route, self.captioning
        yield Line("rule_seconds", "rules with models, per caption kept", route.rule_seconds, "s")
        yield Line("image_seconds", "drawing and scoring, per image", route.image_seconds, "s")
        yield Line("images_per_caption", "images per caption", route.images, "")
        yield Line("captions_per_pair", "captions drawn per usable pair", route.captions, "")
        yield Line("route_seconds", "DRAWN: per usable pair", route.seconds, "s")
        yield Line("captioning_image_seconds", "captioning, per image", other.image_seconds, "s")
        yield Line("captions_written", "share of captions not empty", other.written, "")
        yield Line("captioning_seconds", "CAPTIONED: per usable pair", other.seconds, "s")
        yield Line("ratio", "ratio, drawn / captioned", self.ratio, "")

    def notes(self) -> Iterator[str]:
        """What was measured, and what is counted."""
        route, other = self.route, self.captioning
        yield (
            f"timed: {_batches(*route.timed)} drawn; {_batches(*other.timed)} captioned by "
            f"{self.captioner}, of {self.images}, {other.words:.1f} words each"
        )
        if not route.is_warm:
            yield (
                "too few images to time a batch after the first: the models' loading is in the "
                "time per image, which is too long; draw more (--pairs)"
            )
        yield (
            f"apart, once: loading and warming up take {route.once:.1f} s for drawing, "
            f"{other.once:.1f} s for captioning"
        )
        yield (
            "counted: rules with models for rejected captions too, all candidates, scoring, images "
            "that fail, pairs that are not selected; of captioning, empty captions"
        )
        yield (
            "not counted: rules without models and over the whole data set, selecting and writing; "
            "the images that are captioned, which must exist already; any curation of captioned "
            "pairs; endpoints' own devices"
        )
        yield "seconds: wall time of one device at work; ranges of products: ends with ends, wider"
        if self.bad:
            yield f"{len(self.bad)} images were not usable; the first: {self.bad[0]}"

    def text(self) -> str:
        """A table for people, and the notes below it."""
        rows = [("", "estimate", "95 % range")]
        for line in self.lines():
            value = quantity(line.estimate.value, line.unit)
            rows.append((line.what, value, range_of(line.estimate, line.unit)))
        threads = "" if self.threads is None else f", {self.threads} thread"
        threads += "s" if threads and self.threads != 1 else ""
        notes = [f"- {note}" for note in self.notes()]
        lines = [f"device seconds on {self.device}{threads}:", *aligned(rows), "", *notes]
        return printable("\n".join(lines))

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON; ``low`` and ``high`` are null where no range can be told."""
        return {
            "device": self.device,
            "threads": self.threads,
            "captioner": self.captioner,
            "estimates": {
                line.name: {
                    "value": line.estimate.value,
                    "low": line.estimate.low,
                    "high": line.estimate.high,
                    "unit": line.unit,
                }
                for line in self.lines()
            },
            "once": {"drawing": self.route.once, "captioning": self.captioning.once},
            "bad_images": list(self.bad),
            "notes": list(self.notes()),
        }


def ratio_of(one: Estimate, other: Estimate) -> Estimate:
    """A ratio of numbers above 0; its ends are of the ends, which makes it wider than 95 %."""
    value = one.value / other.value
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Estimate(value, None, None)
    high = one.high / other.low if other.low > 0 else None
    if high is None:
        return Estimate(value, None, None)
    return Estimate(value, max(0.0, one.low) / other.high, high)


def _batches(count: int, size: int) -> str:
    return f"{count} batch{'es' if count > 1 else ''} of {size}"


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

    from synthvlm.models.vlm import VisionLanguageModel, check_model

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
