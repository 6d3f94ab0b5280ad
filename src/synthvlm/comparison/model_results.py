"""Results of ``synthvlm eval``: figures by benchmark, and the score of every answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from synthvlm.errors import CaptionSourceError
from synthvlm.intervals import Estimate

__all__ = ["Figure", "ModelResults", "has_results", "read_results"]

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
        questions: That it was measured on; None where it is not said.
        asked: What the questions are known by: ids of another file mean other questions.
        scores: Of each answer by its question's id, on the scale of the estimate; empty where it
            has none.
    """

    estimate: Estimate
    questions: int | None
    asked: str = ""
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

    asked: str
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
            (str(row["benchmark"]), str(row["figure"])): _figure(file.parent, row) for row in rows
        }
        model, limit = str(values["model"]["name"]), values.get("limit")
    except OSError as error:
        raise CaptionSourceError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CaptionSourceError(f"{file} is no result of `synthvlm eval`, or damaged") from error
    if not figures:
        raise CaptionSourceError(f"{file}: no benchmark was run")
    return ModelResults(label, str(path), model, figures, limit)


def _figure(folder: Path, row: Mapping[str, Any]) -> Figure:
    ours = row["ours"]
    ends = [None if end is None else float(end) for end in (ours["low"], ours["high"])]
    estimate = Estimate(float(ours["value"]), *ends)
    scores = _scores(folder / str(row["benchmark"]) / _SCORES)
    group = scores.by_group.get(str(row["figure"]), {})
    # Rows are in percent.
    percent = {id: 100 * score for id, score in group.items()}
    return Figure(estimate, row.get("questions"), scores.asked, percent)


def _scores(file: Path) -> _Scores:
    """The scores of a local benchmark; none where there is no such file."""
    if not file.is_file():
        return _Scores("", {})
    groups: dict[str, dict[str, float]] = {}
    first, *lines = (orjson.loads(line) for line in file.read_bytes().splitlines())
    for line in lines:
        for group in dict.fromkeys((_ALL, str(line["group"] or _ALL))):
            groups.setdefault(group, {})[str(line["id"])] = float(line["score"])
    return _Scores(str(first["questions"]), groups)
