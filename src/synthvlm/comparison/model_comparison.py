"""Results of models side by side: each against the first, question by question where it can be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from synthvlm.comparison.model_results import Figure, ModelResults
from synthvlm.intervals import Estimate, paired_difference
from synthvlm.text_tables import aligned

__all__ = ["Difference", "ModelComparison", "compare_models"]

#: Characters of a label that a table holds.
_LABEL = 40


@dataclass(frozen=True, slots=True)
class Difference:
    """A model's figure less that of the first model.

    Attributes:
        estimate: The difference; without an interval where the two figures have none.
        pairs: Questions that both answered, on which it is paired; None where it is not, and is
            made from the two intervals as of independent samples.
    """

    estimate: Estimate
    pairs: int | None


@dataclass(frozen=True, slots=True)
class ModelComparison:
    """Figures of models, by benchmark and metric.

    Attributes:
        models: In the order in which they were given.
        rows: All metrics that any model has: benchmark, metric, and for each model its figure
            and its difference to the first one, None where there is none.
    """

    models: tuple[ModelResults, ...]
    rows: tuple[tuple[str, str, tuple[tuple[Figure | None, Difference | None], ...]], ...]

    def text(self) -> str:
        """A table for people, and what is to know of it."""
        first = self.models[0].label[:_LABEL]
        labels = [one.label[:_LABEL] for one in self.models]
        heads = [first, *(cell for label in labels[1:] for cell in (label, f"{label} - {first}"))]
        table = [["benchmark", "metric", *heads]]
        for benchmark, metric, cells in self.rows:
            row = [benchmark, metric, _figure(cells[0][0])]
            for figure, difference in cells[1:]:
                row += [_figure(figure), _difference(difference)]
            table.append(row)
        return "\n".join([*aligned(table, left=2), "", *(f"- {note}" for note in self._notes())])

    def _notes(self) -> Iterator[str]:
        yield "[low, high]: 95 % interval; paired: over the questions that both models answered"
        for one in self.models:
            if one.limit is not None:
                yield f"{one.label}: only the first {one.limit:,} questions of each benchmark"
        cells = [cell for _, _, row in self.rows for cell in row[1:]]
        if any(gap is not None and gap.pairs is None for _, gap in cells):
            yield (
                "unpaired: there are no scores of single answers of both to the same questions; "
                "the interval is that of independent samples, which is wider than it need be"
            )
        for name, metric, row in self.rows:
            lacking = [
                one.label
                for one, (figure, _) in zip(self.models, row, strict=True)
                if figure is None
            ]
            if lacking:
                yield f"{name}, {metric}: not measured by {', '.join(lacking)}"
            counts = {figure.questions for figure, _ in row if figure is not None}
            if len(counts) > 1:
                told = ", ".join(str(count) for count in sorted(counts, key=str))
                yield f"{name}, {metric}: not of equally many questions ({told})"

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "kind": "models",
            "models": [
                {"label": one.label, "path": one.path, "model": one.model} for one in self.models
            ],
            "rows": [
                {
                    "benchmark": benchmark,
                    "metric": metric,
                    "figures": [
                        {
                            "label": one.label,
                            "figure": None if figure is None else _interval(figure.estimate),
                            "questions": None if figure is None else figure.questions,
                            "difference": None if gap is None else _interval(gap.estimate),
                            "paired_questions": None if gap is None else gap.pairs,
                        }
                        for one, (figure, gap) in zip(self.models, cells, strict=True)
                    ],
                }
                for benchmark, metric, cells in self.rows
            ],
        }


def compare_models(models: Sequence[ModelResults]) -> ModelComparison:
    """Put the figures of models side by side, and subtract those of the first.

    Args:
        models: One or more.
    """
    keys = list(dict.fromkeys(key for one in models for key in one.figures))
    rows = []
    for key in keys:
        figures = [one.figures.get(key) for one in models]
        gaps: list[Difference | None] = [None]
        for figure in figures[1:]:
            both = figure is not None and figures[0] is not None
            gaps.append(_between(figure, figures[0]) if both else None)  # type: ignore[arg-type]
        rows.append((*key, tuple(zip(figures, gaps, strict=True))))
    return ModelComparison(tuple(models), tuple(rows))


def _between(ours: Figure, theirs: Figure) -> Difference:
    common = [id for id in theirs.scores if id in ours.scores]
    if common and ours.asked == theirs.asked:
        first, second = ([one.scores[id] for id in common] for one in (ours, theirs))
        return Difference(paired_difference(first, second), len(common))
    return Difference(_unpaired(ours.estimate, theirs.estimate), None)


def _unpaired(ours: Estimate, theirs: Estimate) -> Estimate:
    """The difference of independent figures, their half intervals added in squares.

    R. G. Newcombe, "Interval estimation for the difference between independent proportions"
    (1998), method 10, where the intervals are Wilson's.
    """
    value = ours.value - theirs.value
    if ours.low is None or ours.high is None or theirs.low is None or theirs.high is None:
        return Estimate(value, None, None)
    down = math.hypot(ours.value - ours.low, theirs.high - theirs.value)
    up = math.hypot(ours.high - ours.value, theirs.value - theirs.low)
    return Estimate(value, value - down, value + up)


def _figure(figure: Figure | None) -> str:
    return "-" if figure is None else _with_range(figure.estimate, "")


def _difference(gap: Difference | None) -> str:
    if gap is None:
        return "-"
    how = "unpaired" if gap.pairs is None else f"{gap.pairs:,} paired"
    return f"{_with_range(gap.estimate, '+')} {how}"


def _with_range(estimate: Estimate, sign: str) -> str:
    value = f"{estimate.value:{sign}.4g}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{estimate.low:{sign}.4g}, {estimate.high:{sign}.4g}]"


def _interval(estimate: Estimate) -> dict[str, float | None]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
