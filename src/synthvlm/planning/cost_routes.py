"""Device seconds per usable pair of two routes: an image generated for a caption, or captioned."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthvlm.data import score_column
from synthvlm.errors import CaptionSourceError, RecipeError
from synthvlm.estimates import Estimate, combine, inverse, mean_interval, share_of
from synthvlm.planning.trial import images_per_caption

if TYPE_CHECKING:
    from PIL.Image import Image

    from synthvlm.data import Candidate
    from synthvlm.planning.clock import TimedBatch
    from synthvlm.planning.trial import Trial
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe

__all__ = [
    "CaptioningCost",
    "GenerationCost",
    "Images",
    "captioning_cost",
    "generation_cost",
    "reaches_lowest_scores",
    "read_images",
]

#: Endings of image files.
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, slots=True)
class GenerationCost:
    """What a trial shows of the route that generates images.

    Attributes:
        rule_seconds: Of rules with models, per caption kept.
        image_seconds: Per image generated, scoring included.
        images: Images per caption.
        captions: Captions that images are generated for, per usable pair: some have no usable
            image, some pairs are not selected.
        seconds: Per usable pair.
        once: Seconds of loading models and warming up.
        timed: Batches that were timed, and the images of each.
        is_warm: Whether these batches are free of loading and warm-up.
    """

    rule_seconds: Estimate
    image_seconds: Estimate
    images: Estimate
    captions: Estimate
    seconds: Estimate
    once: float
    timed: tuple[int, int]
    is_warm: bool


def generation_cost(trial: Trial) -> GenerationCost:
    """What a usable pair takes, from a trial of the recipe.

    Raises:
        RecipeError: No pair of the trial would be selected.
    """
    batches = trial.generation_batches
    image_seconds = _per_unit(batches)
    images = images_per_caption(trial.rows, trial.recipe)
    rules = _rule_seconds(trial)
    captions = _captions_per_pair(trial)
    seconds = combine(
        lambda rule, image, count, needed: (rule + image * count) * needed,
        rules, image_seconds, images, captions,
    )  # fmt: skip
    once = _excess(trial.first_batch, image_seconds.value) if trial.is_warm else 0.0
    for rule_batches in trial.rule_batches.values():
        if len(rule_batches) > 1:
            once += _excess(rule_batches[0], _per_unit(rule_batches[1:]).value)
    timed = len(batches), batches[0].amount
    return GenerationCost(
        rules, image_seconds, images, captions, seconds, once, timed, trial.is_warm
    )


def _per_unit(batches: Sequence[TimedBatch]) -> Estimate:
    return mean_interval([batch.seconds / batch.amount for batch in batches])


def _excess(first: TimedBatch, usual: float) -> float:
    """What a first batch took more than others: models are loaded in it."""
    return max(0.0, first.seconds - first.amount * usual)


def _rule_seconds(trial: Trial) -> Estimate:
    """Seconds of rules with models for a caption that is kept, those of rejected ones included."""
    curated = trial.curated.counts["captions"]
    share = share_of(len(trial.curated.kept_captions), curated, trial.pool.distinct)
    parts = []
    for batches in trial.rule_batches.values():
        measured = sum(batch.amount for batch in batches) / curated
        seconds = _per_unit(batches[1:] or batches)
        parts.append(combine(lambda s, n, part=measured: s * n * part, seconds, inverse(share)))
    return combine(lambda *all: sum(all), *parts)


def _captions_per_pair(trial: Trial) -> Estimate:
    """Captions that images are generated for, for a pair that is selected."""
    captions = len({row.caption_id for row in trial.rows})
    pairs = [row for row in trial.rows if row.chosen]
    curated = trial.curated.counts["captions"]
    kept_share = share_of(len(trial.curated.kept_captions), curated, trial.pool.distinct)
    population = round(kept_share.value * trial.pool.distinct)
    paired_share = share_of(len(pairs), captions, population)
    passing = sum(reaches_lowest_scores(row, trial.recipe) for row in pairs)
    if not passing:
        raise RecipeError(
            f"none of {len(pairs)} generated pairs reaches selection.min_scores: lower them, or "
            f"generate more (--pairs)"
        )
    good = share_of(passing, len(pairs), population)
    if not trial.recipe.selection.min_scores:
        good = Estimate.exact(1.0)
    selected = _selected(
        trial.recipe, good, combine(lambda n, p: n * p * population, kept_share, paired_share)
    )
    return combine(lambda a, b: a * b, inverse(paired_share), inverse(selected))


def _selected(recipe: Recipe, good: Estimate, pairs: Estimate) -> Estimate:
    """Share of pairs that the selection keeps.

    Args:
        recipe: With the selection.
        good: Share of pairs that reach the lowest scores.
        pairs: Pairs of the whole run.
    """
    most = Estimate.exact(1.0)
    if recipe.selection.top_fraction is not None:
        most = Estimate.exact(recipe.selection.top_fraction)
    elif recipe.selection.top_n is not None:
        number = recipe.selection.top_n
        most = combine(lambda share: min(1.0, number * share), inverse(pairs))
    return combine(min, good, most)


def reaches_lowest_scores(row: Candidate, recipe: Recipe) -> bool:
    """Whether a candidate with scores has those of ``selection.min_scores``."""
    values = {score_column(name): value for name, value in row.scores.items()}
    if row.score is not None:
        values["score"] = row.score
    return all(values[name] >= lowest for name, lowest in recipe.selection.min_scores.items())


@dataclass(frozen=True, slots=True)
class Images:
    """Images to caption.

    Attributes:
        images: Decoded, RGB.
        bad: Of those that could not be, the file and the problem.
    """

    images: tuple[Image, ...]
    bad: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CaptioningCost:
    """What captioning some images showed.

    Attributes:
        image_seconds: Per image.
        written: Share of images whose caption is not empty.
        seconds: Per captioned pair.
        once: Seconds of loading the model and of the first batch, beyond what others take.
        timed: Batches that were timed, and the images of each.
        words: Mean words of a caption.
    """

    image_seconds: Estimate
    written: Estimate
    seconds: Estimate
    once: float
    timed: tuple[int, int]
    words: float


def captioning_cost(
    load: Callable[[], Callable[[Sequence[Image]], Sequence[str]]],
    images: Sequence[Image],
    *,
    batch_size: int,
    progress: Progress,
) -> CaptioningCost:
    """Time a captioner; its first batch is captioned twice, and counts the second time.

    Args:
        load: Loads the captioner, which takes images and gives a caption for each.
        images: What it captions, at least one.
        batch_size: Images at a time.
        progress: Shows images captioned.

    Raises:
        CaptionSourceError: Every caption is empty.
        ModelError: The captioner cannot be loaded.
    """
    progress.start("caption", len(images), "images")
    began = time.monotonic()
    write_captions = load()
    write_captions(images[:batch_size])
    start = time.monotonic() - began
    timed: list[tuple[int, float]] = []
    captions: list[str] = []
    for first in range(0, len(images), batch_size):
        batch = images[first : first + batch_size]
        began = time.monotonic()
        captions += write_captions(batch)
        timed.append((len(batch), time.monotonic() - began))
        progress.advance(len(batch))
    progress.finish(
        "caption",
        f"{len(captions):,} images captioned ({sum(seconds for _, seconds in timed):.1f} s)",
    )
    filled = [caption for caption in captions if caption.strip()]
    if not filled:
        raise CaptionSourceError(f"the captioner wrote nothing for any of {len(captions)} images")
    full = [batch for batch in timed if batch[0] == timed[0][0]]
    seconds = mean_interval([time / count for count, time in full])
    # Of endlessly many images.
    written = share_of(len(filled), len(captions), len(captions) + 1)
    return CaptioningCost(
        seconds,
        written,
        combine(lambda s, n: s * n, seconds, inverse(written)),
        max(0.0, start - seconds.value * min(batch_size, len(images))),
        (len(full), full[0][0]),
        sum(len(caption.split()) for caption in filled) / len(filled),
    )


def read_images(folder: str, limit: int) -> Images:
    """The first usable images of a folder, by the names of its files.

    Args:
        folder: With .jpg, .png or .webp files in it or below it.
        limit: Images, at most.

    Raises:
        CaptionSourceError: There is no such folder, or no usable image.
    """
    from synthvlm.captions.readers.images import ImageProblem, decode_image, read_image

    root = Path(folder)
    if not root.is_dir():
        raise CaptionSourceError(f"{folder}: there is no such folder of images")
    images: list[Image] = []
    bad: list[str] = []
    for path in sorted(path for path in root.rglob("*") if path.suffix.lower() in _ENDINGS):
        if len(images) == limit:
            break
        try:
            images.append(decode_image(read_image(str(path))))
        except (OSError, ImageProblem, ValueError) as error:
            bad.append(f"{path}: {' '.join(str(error).split())}")
    if not images:
        first = f"; the first of {len(bad)} bad ones: {bad[0]}" if bad else ""
        raise CaptionSourceError(f"{folder}: it holds no usable {', '.join(_ENDINGS)}{first}")
    return Images(tuple(images), tuple(bad))
