"""``synthvlm plan``: what a run will take, extrapolated from a few captions tried here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthvlm.errors import RecipeError
from synthvlm.estimates import (
    Estimate,
    aligned,
    combine,
    inverse,
    mean_interval,
    quantity,
    range_of,
    share_of,
)
from synthvlm.planning.cost_routes import reaches_lowest_scores
from synthvlm.planning.trial import device_name, images_per_caption, run_trial
from synthvlm.progress.notebook import default_progress

if TYPE_CHECKING:
    from synthvlm.planning.trial import Trial
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.recipe.selection import TargetSettings

__all__ = ["Line", "Plan", "line_values", "plan", "table_of"]

_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Line:
    """An estimate: its name for machines, its label for people, and its unit."""

    name: str
    label: str
    estimate: Estimate
    unit: str


def table_of(lines: Iterable[Line]) -> list[str]:
    """Estimates as the lines of a table for people."""
    rows = [("", "estimate", "95 % range")]
    for line in lines:
        value = quantity(line.estimate.value, line.unit)
        rows.append((line.label, value, range_of(line.estimate, line.unit)))
    return aligned(rows)


def line_values(lines: Iterable[Line]) -> dict[str, Any]:
    """Estimates as plain values; ``low`` and ``high`` are null where no range is known."""
    return {
        line.name: {
            "value": line.estimate.value,
            "low": line.estimate.low,
            "high": line.estimate.high,
            "unit": line.unit,
        }
        for line in lines
    }


@dataclass(frozen=True, slots=True)
class Plan:
    """What a whole run will take.

    Attributes:
        device: That the times are of.
        lines: The estimates.
        notes: What was tried, what was assumed, and what is not included.
    """

    device: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...]

    def __getitem__(self, name: str) -> Estimate:
        """The estimate of that name."""
        return next(line.estimate for line in self.lines if line.name == name)

    def text(self) -> str:
        """A table for people, and the notes below it."""
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([f"on {self.device}:", *table_of(self.lines), "", *notes])

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        lines = line_values(self.lines)
        return {"device": self.device, "estimates": lines, "notes": list(self.notes)}


def plan(
    recipe: Recipe,
    *,
    sample: int = 16,
    price_per_hour: float | None = None,
    gpus: int = 1,
    progress: Progress | None = None,
) -> Plan:
    """Estimate captions kept, images, time, disk and cost of a whole run.

    A few captions are curated, and images of some of them generated, in a temporary folder.

    Args:
        recipe: The whole run's.
        sample: Kept captions to generate images for.
        price_per_hour: Of one device, in any currency.
        gpus: Devices that share the work.
        progress: Shows the work.

    Raises:
        RecipeError: No sampled caption is kept, no image can be generated, or a model writes the
            captions.
        SynthVLMError: What a run would raise.
    """
    with run_trial(recipe, sample, progress or default_progress()) as (trial, _):
        return Plan(
            device_name(recipe),
            tuple(_lines(trial, price_per_hour, gpus)),
            tuple(_notes(trial, gpus)),
        )


def _lines(trial: Trial, price_per_hour: float | None, gpus: int) -> Iterator[Line]:
    """The estimates for the whole run."""
    recipe, pool = trial.recipe, trial.pool
    kept_captions = _captions_like(trial, len(trial.curated.kept_captions))
    each = images_per_caption(trial.rows, recipe)
    taken = kept_captions if recipe.target is None else _taken(trial, recipe.target, kept_captions)
    images = _images(recipe, taken, each)
    seconds = mean_interval([batch.seconds / batch.amount for batch in trial.generation_batches])
    rules = combine(lambda *parts: sum(parts), *_rule_hours(trial))
    questions = _question_hours(trial, kept_captions)
    hours = combine(
        lambda n, s, *more: n * s / _HOUR + sum(more), images, seconds, rules, questions
    )
    yield Line("captions_read", "captions read", Estimate.exact(pool.read), "captions")
    if pool.losses.count:
        unreadable = Estimate.exact(pool.losses.count)
        yield Line("captions_unreadable", "unreadable ones", unreadable, "captions")
    yield Line("captions_kept", "captions kept", kept_captions, "captions")
    if recipe.target is not None:
        yield Line("captions_taken", "captions taken for the target", taken, "captions")
    yield Line("images_per_caption", "images per caption", each, "")
    yield Line("images", "images", images, "images")
    yield Line("seconds_per_image", "time per image", seconds, "s")
    if trial.rule_batches:
        yield Line("hours_of_rules", "rules with models", rules, "h")
    if trial.question_batches:
        yield Line("hours_of_questions", "questions about captions", questions, "h")
    yield Line("hours", "one device", hours, "h")
    if gpus > 1:
        shared = combine(lambda h: h / gpus, hours)
        yield Line("hours_each", f"{gpus} devices, each", shared, "h")
    sizes = trial.file_sizes
    in_run = sizes.of_run(recipe, pool.read, taken)
    yield Line("bytes_of_run", "disk, run folder without data set", in_run, "B")
    in_data_set = sizes.of_data_set(recipe, taken)
    yield Line("bytes_of_dataset", "disk, data set", in_data_set, "B")
    if price_per_hour is not None:
        yield Line("cost", "cost", combine(lambda h: h * price_per_hour, hours), "")


def _notes(trial: Trial, gpus: int) -> Iterator[str]:
    """What was tried, what was assumed, and what is not included."""
    recipe, generation = trial.recipe, trial.recipe.generation
    captions = len({row.caption_id for row in trial.rows})
    batches = trial.generation_batches
    timed = "1 batch" if len(batches) == 1 else f"{len(batches):,} batches"
    yield (
        f"tried: {trial.curated.counts['captions']:,} captions curated, {len(trial.rows):,} images "
        f"of {captions:,} kept ones generated; timed: {timed} of {batches[0].amount}"
    )
    if not trial.is_warm:
        yield (
            "too few images to time a batch after the first: the models' loading is in the time "
            "per image, which is too long; a larger --sample is more exact"
        )
    yield "ranges: of products, the ends are multiplied, which makes them wider than 95 %"
    yield from _not_included(recipe)
    excess = trial.pool.losses.excess(recipe.run.max_failed_share)
    if excess is not None:
        yield f"the run will stop: {excess}"
    if generation.adaptive is not None:
        yield "images per caption: what adaptive best-of-k would have generated of the sample's"
    if recipe.target is not None:
        yield _target_note(trial, recipe.target)
    problems = [row.problem for row in trial.rows if row.problem is not None]
    if problems:
        yield f"{len(problems)} of {len(trial.rows)} images are of no use; the first: {problems[0]}"
    failed = sum(row.status == "failed" for row in trial.rows)
    if failed > recipe.run.max_failed_share * len(trial.rows):
        yield "the run will stop: more images fail than run.max_failed_share allows"
    if trial.question_batches:
        yield "questions about captions: the loading of what writes them is in their time"
    if recipe.run.batch_size == "auto":
        yield "run.batch_size is auto: the largest size that the sample came to was timed"
    if generation.endpoint is not None:
        yield (
            "an endpoint generates: its time is that of its replies here; its charges are not in "
            "cost"
        )
    if gpus > 1:
        yield f"the work is taken to be shared evenly between {gpus} devices"


def _target_note(trial: Trial, target: TargetSettings) -> str:
    share = _giving_share(trial)
    kept_captions = _captions_like(trial, len(trial.curated.kept_captions))
    taken = _taken(trial, target, kept_captions)
    pairs = combine(lambda n, part: n * part, taken, share)
    tried = f"{share.value:.0%} of the tried captions give a pair with the minimum scores"
    if pairs.value >= target.pairs * (1 - 1e-9):
        quotas = trial.recipe.selection.method == "quotas"
        provided = ", if each quota has captions enough: a sample does not show it"
        can = f"{target.pairs:,} pairs can be reached{provided if quotas else ''}"
        return f"target: {tried}, so {can}"
    return f"target: {tried}: about {pairs.value:,.0f} of {target.pairs:,} pairs will be reached"


def _not_included(recipe: Recipe) -> Iterator[str]:
    curation = recipe.curation
    on = [
        f"curation.{name}"
        for name in ("near_duplicates", "alignment", "concepts")
        if getattr(curation, name) is not None
    ]
    if on:
        yield (
            f"not included, for a sample does not show: {', '.join(on)}; fewer captions will be "
            f"kept, and all that follows is less; nor the time that the rules themselves take"
        )
    has_target = recipe.target is not None  # whose estimate has the lowest scores in it
    smaller = ["selection.min_scores"] if recipe.selection.min_scores and not has_target else []
    for name in ("image_overlap", "near_duplicate_images"):
        if getattr(recipe.selection, name) is not None:
            smaller.append(f"selection.{name}")
    if smaller:
        named = ", ".join(smaller)
        effect = "more captions for the target" if has_target else "a smaller data set"
        yield f"not included, for a sample does not show: {named} ({effect})"
    yield "not included: loading models, reading captions, rules without models, select, export"


def _captions_like(trial: Trial, count: int) -> Estimate:
    """Captions of the whole run of a kind that ``count`` of the curated sample are of."""
    population = trial.pool.distinct
    share = share_of(count, trial.curated.counts["captions"], population)
    return combine(lambda part: part * population, share)


def _taken(trial: Trial, target: TargetSettings, kept_captions: Estimate) -> Estimate:
    """Captions that are taken until the target or its budget is reached."""
    most = target.max_images // trial.recipe.generation.candidates
    needed = combine(lambda each: target.pairs * each, inverse(_giving_share(trial)))
    return combine(lambda n, kept: min(n, kept, most), needed, kept_captions)


def _giving_share(trial: Trial) -> Estimate:
    """Share of captions that give a pair with the minimum scores."""
    captions = len({row.caption_id for row in trial.rows})
    pairs = [row for row in trial.rows if row.chosen]
    giving = sum(reaches_lowest_scores(row, trial.recipe) for row in pairs)
    if not giving:
        raise RecipeError(
            f"none of {len(pairs)} generated pairs reaches selection.min_scores: lower them, or "
            f"generate more (--sample)"
        )
    return share_of(giving, captions, trial.pool.distinct)


def _images(recipe: Recipe, kept_captions: Estimate, each: Estimate) -> Estimate:
    """Images to generate: to calibrate thresholds, all candidates of the sample."""
    adaptive, count = recipe.generation.adaptive, recipe.generation.candidates
    calibrated = 0 if adaptive is None or adaptive.threshold is not None else adaptive.sample
    return combine(lambda n, k: n * k + min(n, calibrated) * (count - k), kept_captions, each)


def _question_hours(trial: Trial, kept_captions: Estimate) -> Estimate:
    """Of writing the questions about all kept captions."""
    seconds = [batch.seconds / batch.amount for batch in trial.question_batches]
    each = mean_interval(seconds) if seconds else Estimate.exact(0.0)
    return combine(lambda n, s: n * s / _HOUR, kept_captions, each)


def _rule_hours(trial: Trial) -> Iterator[Estimate]:
    for batches in trial.rule_batches.values():
        # The first batch loads the model.
        later = batches[1:] or batches
        seconds = mean_interval([batch.seconds / batch.amount for batch in later])
        captions = _captions_like(trial, sum(batch.amount for batch in batches))
        yield combine(lambda n, s: n * s / _HOUR, captions, seconds)
