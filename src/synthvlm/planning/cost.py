"""``synthvlm cost``: the two routes measured and set side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthvlm.captions.readers.images import decode_image
from synthvlm.captions.writers.image_captions import DEFAULT_IMAGE_PROMPT
from synthvlm.estimates import Estimate, combine, inverse
from synthvlm.models.devices import resolve_device
from synthvlm.models.model_files import vision_language_path
from synthvlm.planning.cost_routes import (
    CaptioningCost,
    GenerationCost,
    Images,
    captioning_cost,
    generation_cost,
    read_images,
)
from synthvlm.planning.plan import Line, line_values, table_of
from synthvlm.planning.trial import device_name, run_trial

if TYPE_CHECKING:
    from PIL.Image import Image

    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["Cost", "cost", "ratio_of"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a usable pair takes on each route.

    Attributes:
        device: That both ran on.
        threads: Of a CPU; None elsewhere.
        captioner: The model that captioned.
        images: Which images it was given, in words.
        generation: The route that generates an image for a caption.
        captioning: The route that captions an image.
        bad: Images that could not be captioned, and why.
    """

    device: str
    threads: int | None
    captioner: str
    images: str
    generation: GenerationCost
    captioning: CaptioningCost
    bad: Sequence[str]

    @property
    def ratio(self) -> Estimate:
        """Seconds of generation over those of captioning."""
        return ratio_of(self.generation.seconds, self.captioning.seconds)

    def lines(self) -> Iterator[Line]:
        """The figures, in the order of the table."""
        generation, captioning = self.generation, self.captioning
        yield Line(
            "rule_seconds", "rules with models, per caption kept", generation.rule_seconds, "s"
        )
        yield Line(
            "image_seconds", "generation and scoring, per image", generation.image_seconds, "s"
        )
        yield Line("images_per_caption", "images per caption", generation.images, "")
        yield Line("captions_per_pair", "captions per usable pair", generation.captions, "")
        yield Line("route_seconds", "GENERATED: per usable pair", generation.seconds, "s")
        yield Line(
            "captioning_image_seconds", "captioning, per image", captioning.image_seconds, "s"
        )
        yield Line("captions_written", "share of captions not empty", captioning.written, "")
        yield Line("captioning_seconds", "CAPTIONED: per usable pair", captioning.seconds, "s")
        yield Line("ratio", "ratio, generated / captioned", self.ratio, "")

    def notes(self) -> Iterator[str]:
        """What was measured, and what is counted."""
        generation, captioning = self.generation, self.captioning
        yield (
            f"timed: {_batches(*generation.timed)} generated; {_batches(*captioning.timed)} "
            f"captioned by {self.captioner}, of {self.images}, {captioning.words:.1f} words each"
        )
        if not generation.is_warm:
            yield (
                "too few images to time a batch after the first: the models' loading is in the "
                "time per image, which is too long; generate more (--pairs)"
            )
        yield (
            f"apart, once: loading and warming up take {generation.once:.1f} s for generation, "
            f"{captioning.once:.1f} s for captioning"
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
        threads = "" if self.threads is None else f", {self.threads} thread"
        threads += "s" if threads and self.threads != 1 else ""
        notes = [f"- {note}" for note in self.notes()]
        lines = [f"device seconds on {self.device}{threads}:", *table_of(self.lines()), "", *notes]
        return "\n".join(lines)

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON; ``low`` and ``high`` are null where no range is known."""
        return {
            "device": self.device,
            "threads": self.threads,
            "captioner": self.captioner,
            "estimates": line_values(self.lines()),
            "once": {"generation": self.generation.once, "captioning": self.captioning.once},
            "bad_images": list(self.bad),
            "notes": list(self.notes()),
        }


def ratio_of(dividend: Estimate, divisor: Estimate) -> Estimate:
    """A ratio of numbers above 0; its ends are of the ends, which makes it wider than 95 %."""
    return combine(lambda a, b: a * b, dividend, inverse(divisor))


def _batches(count: int, size: int) -> str:
    return f"{count} batch{'es' if count > 1 else ''} of {size}"


def cost(
    recipe: Recipe,
    captioner: str,
    *,
    images: str | None = None,
    pairs: int = 16,
    batch_size: int = 4,
    max_new_tokens: int = 100,
    prompt: str | None = None,
    revision: str | None = None,
    progress: Progress,
) -> Cost:
    """Measure what a usable pair takes, generated by the recipe and captioned by a model.

    Args:
        recipe: The route that generates images.
        captioner: Hub id, folder, or output folder of ``synthvlm train``.
        images: Folder of images to caption; None for those that the trial generated.
        pairs: Captions to generate images for, and images to caption, at most.
        batch_size: Images that the captioner is given at a time.
        max_new_tokens: Longest caption.
        prompt: What the captioner is asked; None for the built-in request.
        revision: Of the captioner on the hub.
        progress: Shows the work.

    Raises:
        RecipeError: The recipe yields no pair.
        ModelError: A model cannot be loaded.
        CaptionSourceError: There are no images to caption, or all captions are empty.
    """
    import torch

    from synthvlm.models.vlm import VisionLanguageModel, check_model

    path = vision_language_path(captioner)
    check_model(path, revision)  # before a trial of minutes
    of_folder = None if images is None else read_images(images, pairs)
    with run_trial(recipe, pairs, progress) as (trial, run):
        generation = generation_cost(trial)
        to_caption = of_folder or _generated_images(run, pairs)
    device = resolve_device(recipe.run.device)

    def load() -> Callable[[Sequence[Image]], Sequence[str]]:
        model = VisionLanguageModel(path, device=device, revision=revision)
        request = prompt or DEFAULT_IMAGE_PROMPT
        return lambda batch: model.answer(
            batch, [request] * len(batch), max_new_tokens=max_new_tokens
        )

    captioning = captioning_cost(load, to_caption.images, batch_size=batch_size, progress=progress)
    return Cost(
        device_name(recipe),
        torch.get_num_threads() if device == "cpu" else None,
        captioner,
        "the images that the trial generated" if images is None else images,
        generation,
        captioning,
        to_caption.bad,
    )


def _generated_images(run: RunFolder, count: int) -> Images:
    """The pairs' images of a trial."""
    images: list[Image] = []
    for _, marker in sorted(run.markers("generate").items()):
        name = marker.file("pairs")
        if name is not None:
            images += map(decode_image, run.read_table(name, ["image"])["image"].to_pylist())
    return Images(tuple(images[:count]), ())
