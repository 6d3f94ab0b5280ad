"""From a trial of a recipe on a few captions to its whole run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.estimates import Estimate, combine, mean_interval, share_of
from synthvlm.planning.clock import Lap, full_batches
from synthvlm.planning.footprint import Footprint, images_per_caption
from synthvlm.stages.curation.rules import model_rules_on

if TYPE_CHECKING:
    from synthvlm.data import Candidate
    from synthvlm.planning.pool import Pool
    from synthvlm.planning.sample_captions import Curated
    from synthvlm.recipe import Recipe

__all__ = ["Line", "Trial", "lines_of", "notes_on"]

_GENERATE = "generate"
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Line:
    """An estimate: its name for machines and for people, and its unit."""

    name: str
    what: str
    estimate: Estimate
    unit: str


@dataclass(frozen=True, slots=True)
class Trial:
    """What was tried.

    Attributes:
        recipe: The whole run's.
        pool: Its captions, counted and sampled.
        curated: The curated sample.
        laps: Of ``StageClock``.
        rows: All candidates of the captions that were drawn.
        footprint: What their files weigh.
    """

    recipe: Recipe
    pool: Pool
    curated: Curated
    laps: Mapping[str, Sequence[Lap]]
    rows: Sequence[Candidate]
    footprint: Footprint

    @property
    def rules(self) -> dict[str, Sequence[Lap]]:
        """The laps of the rules with models."""
        names = model_rules_on(self.recipe)
        return {name: self.laps[name] for name in names if name in self.laps}

    @property
    def batches(self) -> list[Lap]:
        """The batches that were timed; all of them where they are too few to leave one out."""
        return full_batches(self.laps[_GENERATE]) or list(self.laps[_GENERATE])


def lines_of(trial: Trial, price_per_hour: float | None, gpus: int) -> Iterator[Line]:
    """The estimates for the whole run."""
    recipe, pool = trial.recipe, trial.pool
    kept = _reaching(trial, len(trial.curated.kept))
    each = images_per_caption(trial.rows, recipe)
    images = _images(recipe, kept, each)
    seconds = mean_interval([lap.seconds / lap.amount for lap in trial.batches])
    rules = combine(lambda *parts: sum(parts), *_rule_hours(trial))
    hours = combine(lambda n, s, more: n * s / _HOUR + more, images, seconds, rules)
    yield Line("captions_read", "captions read", Estimate.exact(pool.read), "captions")
    if pool.unreadable:
        unreadable = Estimate.exact(pool.unreadable)
        yield Line("captions_unreadable", "unreadable ones", unreadable, "captions")
    yield Line("captions_kept", "captions kept", kept, "captions")
    yield Line("images_per_caption", "images per caption", each, "")
    yield Line("images", "images", images, "images")
    yield Line("seconds_per_image", "time per image", seconds, "s")
    if trial.rules:
        yield Line("hours_of_rules", "rules with models", rules, "h")
    yield Line("hours", "one device", hours, "h")
    if gpus > 1:
        shared = combine(lambda h: h / gpus, hours)
        yield Line("hours_each", f"{gpus} devices, each", shared, "h")
    yield Line("bytes_of_run", "disk, run folder", _run_bytes(trial, kept), "B")
    yield Line("bytes_of_dataset", "disk, data set", _dataset_bytes(trial, kept), "B")
    if price_per_hour is not None:
        yield Line("cost", "cost", combine(lambda h: h * price_per_hour, hours), "")


def notes_on(trial: Trial, gpus: int) -> Iterator[str]:
    """What was tried, what was assumed, and what is not included."""
    recipe, generation = trial.recipe, trial.recipe.generation
    drawn = len({row.caption_id for row in trial.rows})
    batches = trial.batches
    timed = "1 batch" if len(batches) == 1 else f"{len(batches):,} batches"
    yield (
        f"tried: {trial.curated.counts['captions']:,} captions curated, {len(trial.rows):,} images "
        f"of {drawn:,} kept ones drawn; timed: {timed} of {batches[0].amount}"
    )
    if not full_batches(trial.laps[_GENERATE]):
        yield (
            "too few images to time a batch after the first: the models' loading is in the time "
            "per image, which is too long; a larger --sample tells more"
        )
    yield "ranges: of products, the ends are multiplied, which makes them wider than 95 %"
    yield from _not_included(recipe)
    if trial.pool.unreadable > math.ceil(recipe.run.max_failed_share * trial.pool.read):
        yield "the run will stop: more captions are unreadable than run.max_failed_share allows"
    if generation.adaptive is not None:
        yield "images per caption: what adaptive best-of-k would have drawn of the sample's"
    problems = [row.problem for row in trial.rows if row.problem is not None]
    if problems:
        yield f"{len(problems)} of {len(trial.rows)} images are of no use; the first: {problems[0]}"
    failed = sum(row.status == "failed" for row in trial.rows)
    if failed > recipe.run.max_failed_share * len(trial.rows):
        yield "the run will stop: more images fail than run.max_failed_share allows"
    if recipe.run.batch_size == "auto":
        yield "run.batch_size is auto: the largest size that the sample came to was timed"
    if generation.endpoint is not None:
        yield "an endpoint draws: its time is that of its replies here; its charges are not in cost"
    if gpus > 1:
        yield f"the work is taken to be shared evenly between {gpus} devices"


def _not_included(recipe: Recipe) -> Iterator[str]:
    curation = recipe.curation
    on = [
        f"curation.{name}"
        for name in ("near_duplicates", "alignment", "concepts")
        if getattr(curation, name) is not None
    ]
    if on:
        yield (
            f"not included, for a sample cannot tell: {', '.join(on)}; fewer captions will be "
            f"kept, and all that follows is less; nor the time that the rules themselves take"
        )
    selection = recipe.selection
    if selection.min_scores:
        yield "not included, for a sample cannot tell: selection.min_scores (a smaller data set)"
    yield "not included: loading models, reading captions, rules without models, select, export"


def _reaching(trial: Trial, count: int) -> Estimate:
    """Captions of the whole run, where ``count`` of the curated sample are as they."""
    population = trial.pool.distinct
    share = share_of(count, trial.curated.counts["captions"], population)
    return combine(lambda part: part * population, share)


def _images(recipe: Recipe, kept: Estimate, each: Estimate) -> Estimate:
    """Images to draw: where thresholds are calibrated, all of the sample, and its winners anew."""
    adaptive, count = recipe.generation.adaptive, recipe.generation.candidates
    calibrated = 0 if adaptive is None or adaptive.threshold is not None else adaptive.sample
    return combine(lambda n, k: n * k + min(n, calibrated) * (count - k + 1), kept, each)


def _rule_hours(trial: Trial) -> Iterator[Estimate]:
    for laps in trial.rules.values():
        # The first lap loads the model.
        seconds = mean_interval([lap.seconds / lap.amount for lap in laps[1:] or laps])
        captions = _reaching(trial, sum(lap.amount for lap in laps))
        yield combine(lambda n, s: n * s / _HOUR, captions, seconds)


def _run_bytes(trial: Trial, kept: Estimate) -> Estimate:
    size, candidates = trial.footprint, trial.recipe.generation.candidates
    shards = math.ceil(trial.pool.read / trial.recipe.run.shard_size)
    fixed = trial.pool.read * size.caption + shards * size.shard
    each = size.pair + candidates * size.candidate
    return combine(lambda n, image: fixed + n * (each + image), kept, size.image)


def _dataset_bytes(trial: Trial, kept: Estimate) -> Estimate:
    """Each format has a copy of the images of the selected pairs."""
    selection, formats = trial.recipe.selection, len(set(trial.recipe.export.formats))

    def selected(pairs: float) -> float:
        if selection.top_n is not None:
            return min(pairs, selection.top_n)
        return pairs * (selection.top_fraction or 1.0)

    size = trial.footprint.image
    return combine(lambda n, image: selected(n) * image * formats, kept, size)
