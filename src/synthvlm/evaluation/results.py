"""One table of results: ours, what can be had without looking, and what others published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from synthvlm.estimates import Estimate, aligned
from synthvlm.evaluation.benchmarks import Benchmark
from synthvlm.evaluation.harness import HarnessResult
from synthvlm.evaluation.questions import BadQuestion
from synthvlm.evaluation.scoring import GroupScores
from synthvlm.safe_text import for_markdown

__all__ = ["Results", "Row", "harness_rows", "local_rows"]

#: Bad records that tables name; the JSON file has them all.
_SHOWN_BAD = 5
_WAYS = {
    "read": "as a reader takes it",
    "exact": "exactly yes or no",
    "llava": "LLaVA's script",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of a benchmark; percent, but for MME's sums.

    Attributes:
        benchmark: Its title.
        figure: Which metric or group.
        ours: The model's; None: it was not run.
        questions: How many.
        without_looking: Accuracies of the baselines, by name.
        published: Figures of others, by model.
        note: What to know; why it was not run.
    """

    benchmark: str
    figure: str
    ours: Estimate | None
    questions: int | None = None
    without_looking: dict[str, float] = field(default_factory=dict)
    published: dict[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Results:
    """All results of a model.

    Attributes:
        model: Its name, what identifies it, device and dtype.
        versions: Of this package, of the harnesses, of their tasks.
        limit: Questions at most of each benchmark; None: all.
        rows: The table.
        groups: Scores of local benchmarks, whole, by benchmark; of earlier ones as plain values.
        bad: Records of local benchmarks that could not be used.
    """

    model: dict[str, Any]
    versions: dict[str, str]
    limit: int | None
    rows: tuple[Row, ...]
    groups: Mapping[str, Sequence[GroupScores | Mapping[str, Any]]]
    bad: tuple[BadQuestion, ...]

    def joined(self, earlier: Mapping[str, Any], paths: Sequence[str]) -> Results:
        """These results behind those of other benchmarks that were in the folder before.

        Args:
            earlier: Plain values, as ``values`` gives them, of the same model and limit.
            paths: Question files that were read now: their bad records are known anew.
        """
        now = {row.benchmark for row in self.rows}
        before = earlier["versions"]
        others = [f"{n} {v}" for n, v in before.items() if self.versions.get(n, v) != v]
        note = f"measured earlier, with {', '.join(others)}" if others else ""
        earlier_rows = [_row(row, note) for row in earlier["rows"] if row["benchmark"] not in now]
        groups = {name: of for name, of in earlier["groups"].items() if name not in self.groups}
        starts = tuple(f"{path}, record " for path in paths)
        bad = [BadQuestion(**one) for one in earlier["bad"]]
        bad = [one for one in bad if not one.where.startswith(starts)]
        return replace(
            self,
            versions={**before, **self.versions},
            rows=(*earlier_rows, *self.rows),
            groups={**groups, **self.groups},
            bad=(*bad, *self.bad),
        )

    @property
    def is_whole(self) -> bool:
        """Whether every benchmark was run."""
        return all(row.ours is not None for row in self.rows)

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def text(self) -> str:
        """The table for a terminal, and what to know about it."""
        cells = self._cells()
        return "\n".join([*aligned(cells, left=2), "", *self._about()])

    def markdown(self) -> str:
        """The same for a Markdown file."""
        header, *rows = ([for_markdown(cell) for cell in row] for row in self._cells())
        lines = [header, ["---", "---", *["---:"] * (len(header) - 2)], *rows]
        table = [f"| {' | '.join(line)} |" for line in lines]
        return (
            "\n".join([*table, "", *(f"- {for_markdown(line)}" for line in self._about())]) + "\n"
        )

    def _cells(self) -> list[list[str]]:
        """Header and rows; an empty column is left out."""
        without = _names(row.without_looking for row in self.rows)
        published = _names(row.published for row in self.rows)
        notes = list(dict.fromkeys(row.note for row in self.rows if row.note))
        header = ["benchmark", "figure", "ours", "95 % interval", "questions"]
        table = [[*header, *without, *(f"{name} (published)" for name in published), "note"]]
        for row in self.rows:
            table.append(
                [
                    row.benchmark,
                    row.figure,
                    _number(row.ours.value) if row.ours else "not run",
                    _interval(row.ours),
                    f"{row.questions:,}" if row.questions is not None else "",
                    *(_number(row.without_looking.get(name)) for name in without),
                    *(_number(row.published.get(name)) for name in published),
                    f"[{notes.index(row.note) + 1}]" if row.note else "",
                ]
            )
        used = [any(column) for column in zip(*table[1:], strict=True)]
        return [
            [_one_line(cell) for cell, is_used in zip(row, used, strict=True) if is_used]
            for row in table
        ]

    def _about(self) -> list[str]:
        lines = [f"model: {self.model['name']}, {self.model['dtype']} on {self.model['device']}"]
        if self.limit is not None:
            lines.append(
                f"only the first {self.limit:,} questions of each benchmark or of each of its "
                f"parts: not to be compared with published figures"
            )
        notes = dict.fromkeys(row.note for row in self.rows if row.note)
        lines += [f"[{number}] {note}" for number, note in enumerate(notes, start=1)]
        if any(row.published for row in self.rows):
            lines.append("published: by their authors, not measured here")
        lines.append(
            "versions: " + ", ".join(f"{name} {what}" for name, what in self.versions.items())
        )
        if self.bad:
            lines.append(f"{len(self.bad):,} bad records were left out:")
            lines += [f"{one.where}: {one.problem}" for one in self.bad[:_SHOWN_BAD]]
            if len(self.bad) > _SHOWN_BAD:
                lines.append(f"and {len(self.bad) - _SHOWN_BAD:,} more, in results.json")
        return [_one_line(line) for line in lines]


def local_rows(title: str, groups: Sequence[GroupScores]) -> list[Row]:
    """Rows of a local benchmark: all questions, each group, and POPE's figures of yes and no."""
    rows = []
    if len(groups) == 2 and groups[0].questions == groups[1].questions:
        groups = groups[1:]  # all questions are of that group
    for scores in groups:
        without = {"majority": 100 * scores.majority}
        if scores.question_only is not None:
            without["question only"] = 100 * scores.question_only
        if scores.blind is not None:
            without["blind"] = 100 * scores.blind.value
        rows.append(Row(title, scores.group, _percent(scores.accuracy), scores.questions, without))
        for way, yes_no in (scores.yes_no or {}).items():
            for name, value in (("accuracy", yes_no.accuracy), ("F1", yes_no.f1)):
                label = f"{scores.group}, {name} ({_WAYS[way]})"
                estimate = Estimate(100 * value, None, None)
                rows.append(Row(title, label, estimate, scores.questions))
    return rows


def harness_rows(
    benchmark: Benchmark, result: HarnessResult | None, problem: str = ""
) -> list[Row]:
    """Rows of a benchmark that a harness ran, or (with the problem) did not run."""
    rows = []
    for metric in benchmark.metrics:
        published = dict(metric.published)
        note = f"not run: {problem}" if result is None else ""
        if not note and metric.note:
            note = f"published figures: {metric.note}"
        ours = None if result is None else result.values[metric.key]
        questions = None if result is None else result.questions
        rows.append(
            Row(benchmark.title, metric.label, ours, questions, published=published, note=note)
        )
    return rows


def _one_line(text: str) -> str:
    """Groups and ids are untrusted input, and could hold lines that pass for ours."""
    return " ".join(text.split())


def _row(values: Mapping[str, Any], note: str) -> Row:
    """A row from plain values, with one more note."""
    ours = None if values["ours"] is None else Estimate(**values["ours"])
    notes = [one for one in (values["note"], note) if one]
    return Row(**{**values, "ours": ours, "note": "; ".join(notes)})


def _names(columns: Any) -> list[str]:
    return list(dict.fromkeys(name for column in columns for name in column))


def _percent(share: Estimate) -> Estimate:
    ends = [None if end is None else 100 * end for end in (share.low, share.high)]
    return Estimate(100 * share.value, *ends)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def _interval(estimate: Estimate | None) -> str:
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"{estimate.low:,.1f} to {estimate.high:,.1f}"
