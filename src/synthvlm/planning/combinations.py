"""Combinations of settings, compared on the same captions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from synthvlm.estimates import Estimate, aligned, mean_interval
from synthvlm.recipe.yaml_text import dump_yaml
from synthvlm.scorers import SCORERS

if TYPE_CHECKING:
    from synthvlm.data import Candidate

__all__ = [
    "CRITERIA",
    "Combination",
    "Tuning",
    "compare",
    "generation_seconds",
    "measure_combination",
]

#: What combinations are sorted by.
CRITERIA = ("score", "score-per-second")


@dataclass(frozen=True, slots=True)
class Combination:
    """A combination of settings, and what came of it.

    Attributes:
        settings: Values by recipe key.
        folder: Its run folder, inside that of the search.
        problem: Why there are no scores; the fields below are then None.
        score: Mean over captions.
        scorers: Mean of each scorer, by its name.
        difference: Mean over captions of their score less that of the best combination.
        seconds_per_image: Of the generator.
        failed: Images without a score.
        scores: Score of each caption by id, the mean of its images.
    """

    settings: dict[str, Any]
    folder: str
    problem: str | None = None
    score: Estimate | None = None
    scorers: Mapping[str, Estimate] = field(default_factory=dict)
    difference: Estimate | None = None
    seconds_per_image: float | None = None
    failed: int = 0
    scores: Mapping[str, float] = field(default_factory=dict, repr=False)

    @property
    def score_per_second(self) -> float | None:
        """Mean score of an image per second of the generator for it."""
        if self.score is None or not self.seconds_per_image:
            return None
        return self.score.value / self.seconds_per_image

    @property
    def is_noise(self) -> bool:
        """Whether the difference to the best one may be none: 0 lies in its interval."""
        gap = self.difference
        if gap is None or gap.low is None or gap.high is None:
            return gap is not None
        return gap.low <= 0 <= gap.high

    def by(self, criterion: str) -> float:
        """What it is sorted by; minus infinity where it is not known."""
        value = self.score_per_second
        if criterion == "score":
            value = None if self.score is None else self.score.value
        return -math.inf if value is None else value


def measure_combination(
    settings: dict[str, Any],
    folder: str,
    rows: Sequence[Candidate],
    events: Iterable[Mapping[str, Any]],
    max_failed_share: float,
) -> Combination:
    """A combination from its candidate rows and the events of its run folder.

    One of which more images than that share have no score has failed: the captions left are not
    those of the others.
    """
    usable = [row for row in rows if row.score is not None]
    failed = len(rows) - len(usable)
    if failed > math.ceil(max_failed_share * len(rows)) or not usable:
        first = next((row.problem for row in rows if row.problem), "none")
        problem = f"{failed} of {len(rows)} images have no score; the first problem: {first}"
        return Combination(settings, folder, problem, failed=failed)
    scores = _by_caption(usable, lambda row: row.score or 0.0)
    return Combination(
        settings,
        folder,
        score=_mean(scores),
        scorers={
            name: _mean(_by_caption(usable, partial(_scored, name))) for name in usable[0].scores
        },
        seconds_per_image=generation_seconds(events),
        failed=failed,
        scores=scores,
    )


def _scored(scorer: str, row: Candidate) -> float:
    return row.scores[scorer]


def _by_caption(rows: Iterable[Candidate], score: Callable[[Candidate], float]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row.caption_id, []).append(score(row))
    return {id: math.fsum(scores) / len(scores) for id, scores in values.items()}


def _mean(values: Mapping[str, float]) -> Estimate:
    return mean_interval(list(values.values()))


def generation_seconds(events: Iterable[Mapping[str, Any]]) -> float | None:
    """Seconds per image of the generator at work, from a run folder's events.

    The first shard of a process is left out, for it warms up, and so are shards that are
    smaller than others; unless there is no other shard. None where nothing was generated.
    """
    warm: list[tuple[int, float]] = []
    first: list[tuple[int, float]] = []
    is_first = True
    for event in events:
        if event.get("event") == "run":
            is_first = True
        elif event.get("event") == "shard" and event.get("stage") == "generate":
            images = int(event.get("generated", 0)) + int(event.get("regenerated", 0))
            if images:
                # Runs of version 0.1 before its release wrote `drawing_s`.
                seconds = event.get("generation_seconds", event.get("drawing_s", 0.0))
                (first if is_first else warm).append((images, float(seconds)))
                is_first = False
    shards = warm or first
    full = [shard for shard in shards if shard[0] == max(shards)[0]]
    return sum(time for _, time in full) / sum(n for n, _ in full) if full else None


def compare(combinations: Sequence[Combination], by: str) -> Iterator[Combination]:
    """Combinations sorted by a criterion, with their differences to the first."""
    ordered = sorted(combinations, key=lambda one: one.by(by), reverse=True)
    best = ordered[0]
    for combination in ordered:
        gaps = [
            score - best.scores[id] for id, score in combination.scores.items() if id in best.scores
        ]
        if gaps and combination is not best:
            combination = replace(combination, difference=mean_interval(gaps))
        yield combination


@dataclass(frozen=True, slots=True)
class Tuning:
    """The result of a search.

    Attributes:
        by: Criterion.
        captions: That images were generated for with each combination.
        candidates: Images of each caption.
        seed: The recipe's.
        combinations: Best first, those that failed last.
    """

    by: str
    captions: int
    candidates: int
    seed: int
    combinations: tuple[Combination, ...]

    @property
    def best(self) -> Combination | None:
        """The first; None where all failed."""
        first = self.combinations[0]
        return first if first.problem is None else None

    def yaml(self) -> str:
        """The lines of a recipe that set what is best; empty where all failed."""
        values: dict[str, Any] = {}
        for key, value in (self.best.settings if self.best else {}).items():
            *parents, last = key.split(".")
            place = values
            for part in parents:
                place = place.setdefault(part, {})
            place[last] = value
        return dump_yaml(values) if values else ""

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = []
        for combination in self.combinations:
            row = asdict(combination) | {"score_per_second": combination.score_per_second}
            del row["scores"]
            rows.append(row)
        return {
            "by": self.by,
            "captions": self.captions,
            "candidates": self.candidates,
            "seed": self.seed,
            "combinations": rows,
            "recipe": self.yaml(),
        }

    def text(self) -> str:
        """A table for people, best first."""
        keys = list(self.combinations[0].settings)
        heads = [key.split(".", 1)[1] for key in keys]
        names = next((list(one.scorers) for one in self.combinations if one.scorers), [])
        table = [
            [*heads, "score", *map(SCORERS.label, names), "score - best", "s/image", "score/s", ""]
        ]
        for combination in self.combinations:
            settings = [str(combination.settings[key]) for key in keys]
            table.append(
                [*settings, *_cells(combination, len(names), is_best=combination is self.best)]
            )
        return "\n".join(aligned(table, left=len(keys)))


def _cells(combination: Combination, scorers: int, is_best: bool) -> list[str]:
    if combination.score is None:
        return [*["-"] * (4 + scorers), f"failed: {combination.problem}"]
    remark = "best" if is_best else "may be noise" if combination.is_noise else ""
    if combination.failed:
        remark = f"{remark}, {combination.failed} images without a score".removeprefix(", ")
    return [
        *(_with_margin(mean) for mean in (combination.score, *combination.scorers.values())),
        "-" if combination.difference is None else _with_margin(combination.difference),
        "-" if combination.seconds_per_image is None else f"{combination.seconds_per_image:.3g}",
        "-" if combination.score_per_second is None else f"{combination.score_per_second:.3g}",
        remark,
    ]


def _with_margin(mean: Estimate) -> str:
    if mean.high is None:
        return f"{mean.value:.4f}"
    return f"{mean.value:.4f} ± {mean.high - mean.value:.4f}"
