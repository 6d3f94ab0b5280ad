"""Device seconds per usable pair of the own route: curate, draw candidates, score, select."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.data import score_column
from synthvlm.errors import RecipeError
from synthvlm.estimates import Estimate, combine, mean_interval, share_of
from synthvlm.planning.clock import full_batches
from synthvlm.planning.footprint import images_per_caption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synthvlm.data import Candidate
    from synthvlm.planning.clock import Lap
    from synthvlm.planning.extrapolation import Trial
    from synthvlm.recipe import Recipe

__all__ = ["RouteCost", "route_cost"]

_GENERATE = "generate"


@dataclass(frozen=True, slots=True)
class RouteCost:
    """What a trial tells of the route.

    Attributes:
        rule_seconds: Of rules with models, per caption kept.
        image_seconds: Per image drawn, scoring included.
        images: Images per caption.
        captions: Captions drawn per usable pair: some have no usable image, some pairs are not
            selected.
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


def route_cost(trial: Trial) -> RouteCost:
    """What a usable pair takes, from a trial of the recipe.

    Raises:
        RecipeError: No pair of the trial would be selected.
    """
    batches = trial.batches
    image_seconds = _per_unit(batches)
    images = images_per_caption(trial.rows, trial.recipe)
    rules = _rule_seconds(trial)
    captions = _captions_per_pair(trial)
    seconds = combine(
        lambda rule, image, count, needed: (rule + image * count) * needed,
        rules, image_seconds, images, captions,
    )  # fmt: skip
    laps = trial.laps[_GENERATE]
    is_warm = bool(full_batches(laps))
    once = _beyond(laps[0], image_seconds.value) if is_warm else 0.0
    for own in trial.rules.values():
        if len(own) > 1:
            once += _beyond(own[0], _per_unit(own[1:]).value)
    timed = len(batches), batches[0].amount
    return RouteCost(rules, image_seconds, images, captions, seconds, once, timed, is_warm)


def _per_unit(laps: Sequence[Lap]) -> Estimate:
    return mean_interval([lap.seconds / lap.amount for lap in laps])


def _beyond(first: Lap, usual: float) -> float:
    """What a first lap took more than others: models are loaded in it."""
    return max(0.0, first.seconds - first.amount * usual)


def _rule_seconds(trial: Trial) -> Estimate:
    """Seconds of rules with models for a caption that is kept, those of rejected ones included."""
    curated, kept = trial.curated.counts["captions"], len(trial.curated.kept)
    share = share_of(kept, curated, trial.pool.distinct)
    parts = []
    for laps in trial.rules.values():
        asked = sum(lap.amount for lap in laps) / curated
        seconds = _per_unit(laps[1:] or laps)
        parts.append(combine(lambda s, n, part=asked: s * n * part, seconds, _inverse(share)))
    return combine(lambda *all: sum(all), *parts)


def _captions_per_pair(trial: Trial) -> Estimate:
    """Captions that are drawn for a pair that is selected."""
    drawn = len({row.caption_id for row in trial.rows})
    pairs = [row for row in trial.rows if row.chosen]
    kept = share_of(len(trial.curated.kept), trial.curated.counts["captions"], trial.pool.distinct)
    population = round(kept.value * trial.pool.distinct)
    paired = share_of(len(pairs), drawn, population)
    passing = sum(_reaches_lowest_scores(row, trial.recipe) for row in pairs)
    if not passing:
        raise RecipeError(
            f"none of {len(pairs)} drawn pairs reaches selection.min_scores: lower them, or draw "
            f"more (--pairs)"
        )
    good = share_of(passing, len(pairs), population)
    if not trial.recipe.selection.min_scores:
        good = Estimate.exact(1.0)
    selected = _selected(trial.recipe, good, combine(lambda n, p: n * p * population, kept, paired))
    return combine(lambda a, b: a * b, _inverse(paired), _inverse(selected))


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
        most = combine(lambda inverse: min(1.0, number * inverse), _inverse(pairs))
    return combine(min, good, most)


def _reaches_lowest_scores(row: Candidate, recipe: Recipe) -> bool:
    values = {score_column(name): value for name, value in row.scores.items()}
    if row.score is not None:
        values["score"] = row.score
    return all(values[name] >= lowest for name, lowest in recipe.selection.min_scores.items())


def _inverse(share: Estimate) -> Estimate:
    """One over a number above 0; without an interval where its lower end is 0."""
    if share.low is None or share.high is None or share.low <= 0:
        return Estimate(1 / share.value, None, None)
    return Estimate(1 / share.value, 1 / share.high, 1 / share.low)
