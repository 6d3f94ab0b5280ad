"""Results of models side by side: each against the first, question by question where it can be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from synthvlm.errors import CaptionSourceError
from synthvlm.estimates import Estimate, aligned, paired_difference

__all__ = [
    "Difference",
    "Figure",
    "ModelComparison",
    "ModelResults",
    "compare_models",
    "has_results",
    "read_results",
]

_RESULTS = "results.json"
#: In the folder of a local benchmark: a line with the checksum of its questions, then a line with
#: ``id``, ``group`` and ``score`` (0 .. 1) of each.
_SCORES = "scores.jsonl"
#: The group of all questions.
_ALL = "all"


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric of a benchmark, or its accuracy on a group of questions.

    Attributes:
        estimate: Its value, with an interval where one is known.
        questions: That it was measured on; None where it is not known.
        checksum: Of the file of questions: ids of another file mean other questions.
        scores: Of each answer by its question's id, on the scale of the estimate; empty where it
            has none.
    """

    estimate: Estimate
    questions: int | None
    checksum: str = ""
    scores: Mapping[str, float] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class ModelResults:
    """A model's figures.

    Attributes:
        label: What it is called.
        path: As the user wrote it.
        model: The model that was evaluated.
        figures: By benchmark and metric, in their order.
        limit: Questions at most of each benchmark; None: all.
    """

    label: str
    path: str
    model: str
    figures: Mapping[tuple[str, str], Figure]
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class _Scores:
    """Scores of a benchmark's answers (0 .. 1), by group."""

    checksum: str
    by_group: Mapping[str, Mapping[str, float]]


def has_results(path: Path) -> bool:
    """Whether a path is a folder or file of results."""
    return (path / _RESULTS).is_file() if path.is_dir() else path.name == _RESULTS


def read_results(label: str, path: Path) -> ModelResults:
    """Read a folder of ``synthvlm eval --out``, or its ``results.json``.

    Raises:
        CaptionSourceError: It is damaged, not of that kind, or holds no figure.
    """
    file = path / _RESULTS if path.is_dir() else path
    try:
        values = orjson.loads(file.read_bytes())
        rows = [row for row in values["rows"] if row["ours"] is not None]
        figures = {
            (str(row["benchmark"]), str(row["figure"])): _read_figure(file.parent, row)
            for row in rows
        }
        model, limit = str(values["model"]["name"]), values.get("limit")
    except OSError as error:
        raise CaptionSourceError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CaptionSourceError(f"{file} is no result of `synthvlm eval`, or damaged") from error
    if not figures:
        raise CaptionSourceError(f"{file}: no benchmark was run")
    return ModelResults(label, str(path), model, figures, limit)


def _read_figure(folder: Path, row: Mapping[str, Any]) -> Figure:
    ours = row["ours"]
    ends = [None if end is None else float(end) for end in (ours["low"], ours["high"])]
    estimate = Estimate(float(ours["value"]), *ends)
    scores = _read_scores(folder / str(row["benchmark"]) / _SCORES)
    group = scores.by_group.get(str(row["figure"]), {})
    # Rows are in percent.
    percent = {id: 100 * score for id, score in group.items()}
    return Figure(estimate, row.get("questions"), scores.checksum, percent)


def _read_scores(file: Path) -> _Scores:
    """The scores of a local benchmark; none where there is no such file."""
    if not file.is_file():
        return _Scores("", {})
    groups: dict[str, dict[str, float]] = {}
    first, *lines = (orjson.loads(line) for line in file.read_bytes().splitlines())
    for line in lines:
        for group in dict.fromkeys((_ALL, str(line["group"] or _ALL))):
            groups.setdefault(group, {})[str(line["id"])] = float(line["score"])
    return _Scores(str(first["questions"]), groups)


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
                numbers = ", ".join(str(count) for count in sorted(counts, key=str))
                yield f"{name}, {metric}: not of equally many questions ({numbers})"

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
    if common and ours.checksum == theirs.checksum:
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
