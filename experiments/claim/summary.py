"""Make the tables of results: ``python -m experiments.claim.summary --out .claim``.

The analysis, fixed before any arm was compared:

- Measures: relation questions right, captions right on 600 held-out drawings, loss of a token of
  true captions of the same drawings (lower is better), true captions told apart from edited ones
  (mean over the kinds of edits, and relations alone), questions of all topics of the world (mean of
  the topics' shares).
- First: is ``real`` - C above 0 in them? If not, nothing can be seen.
- Main comparison: best method - C, paired by seed, with its 95 % interval over seeds (Student's
  t). The best method is the one of `METHODS` with the lowest loss at seed `PILOT`, which is in no
  table.
- Every other arm - C the same way.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from experiments.claim.arms import ARMS, FAULTLESS, FAULTS, data_of
from experiments.claim.truth import facts_of
from synthvlm.estimates import Estimate, mean_interval

HERE = Path(__file__).parent
NAMES: Final[Mapping[str, str]] = {
    "real": "true drawings of C's captions",
    "right": "random captions, a right candidate",
    "wrong": "C's captions, a wrong candidate where there is one",
    "c": "C: random captions, candidate 0",
    "best": "C's captions, best of 4",
    "top": "B: top by score",
    "quotas": "B: quotas",
    "coverage": "B: coverage",
    "clip": "B: top by CLIPScore alone",
    "verifier": "B: top by the verifier",
    "large": "B: top of 22,320 captions",
    "a": "A: the web, all of it",
    "d": "D: the web, at random",
    "e": "E: the web's pictures, captioned",
}
#: Ways to choose that the product has; the main comparison is of one of them.
METHODS: Final = ("best", "top", "quotas", "coverage", "clip", "verifier")
#: The seed by which the best method is found.
PILOT: Final = 100

Rows = Mapping[str, Mapping[int, dict[str, Any]]]
Measure = Callable[[dict[str, Any]], float]


def _share(row: dict[str, Any], group: str, test: str = "questions") -> float:
    right, asked = row[test][group]
    return float(right / asked)


def _mean(row: dict[str, Any], test: str) -> float:
    return sum(_share(row, group, test) for group in row[test]) / len(row[test])


#: Each measure of a run, its factor in tables, and its name there.
MEASURES: Final[Mapping[str, tuple[Measure, float]]] = {
    "relation questions, %": (lambda row: _share(row, "relation"), 100),
    "captions right, %": (lambda row: float(row["captions"]), 100),
    "loss, x1000": (lambda row: float(row["loss"]), 1000),
    "told apart, %": (lambda row: _mean(row, "told_apart"), 100),
    "relations told apart, %": (lambda row: _share(row, "relation", "told_apart"), 100),
    "world questions, %": (lambda row: _mean(row, "questions"), 100),
}


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(".claim"))
    parser.add_argument("--to", type=Path, default=HERE / "results.md")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    parts = [
        "# Results",
        "Made by `summary.py` of what `arms.py` and `run.py` left. Means over the seeds with 95 % "
        "intervals (Student's t); differences are paired by seed.",
    ]
    for faults in FAULTS:
        rows = rows_of(args.out, faults)
        if "c" in rows:
            parts += [f"## Faults: {faults}", *sections(args.out, faults, rows)]
    args.to.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def rows_of(out: Path, faults: str) -> Rows:
    """The results of a kind of faults, and of the arms without a generator: arm -> seed -> run."""
    rows: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for file in sorted((out / "results").glob("*.json")):
        row = json.loads(file.read_text())
        if row["faults"] in (faults, ""):
            rows[row["arm"]][row["seed"]] = row
    return {arm: rows[arm] for arm in ARMS if arm in rows}


def sections(out: Path, faults: str, rows: Rows) -> list[str]:
    """All that is told of a kind of faults."""
    of_seeds = {
        arm: {seed: row for seed, row in runs.items() if seed != PILOT}
        for arm, runs in rows.items()
    }
    parts = []
    if "real" in of_seeds:
        parts += ["Sensitivity: " + sentence(of_seeds, "real") + "."]
    best = best_method(rows)
    if best is not None and of_seeds.get(best):
        parts += [f"Main comparison, best method ({NAMES[best]}): {sentence(of_seeds, best)}."]
    return [
        *parts,
        score_table(of_seeds),
        difference_table(of_seeds),
        group_table(of_seeds, "told_apart"),
        group_table(of_seeds, "questions"),
        data_table(out, faults, of_seeds),
    ]


def best_method(rows: Rows) -> str | None:
    """The method with the lowest loss at the pilot seed; None where none was run with it."""
    loss, _ = MEASURES["loss, x1000"]
    piloted = {arm: loss(rows[arm][PILOT]) for arm in METHODS if PILOT in rows.get(arm, {})}
    return min(piloted, key=piloted.__getitem__, default=None)


def differences(rows: Rows, arm: str, measure: Measure) -> list[float]:
    """Of an arm and C, for each seed that both have."""
    both = sorted(rows[arm].keys() & rows["c"].keys())
    return [measure(rows[arm][seed]) - measure(rows["c"][seed]) for seed in both]


def sentence(rows: Rows, arm: str) -> str:
    """An arm - C in all measures."""
    return f"{NAMES[arm]} - C: " + ", ".join(
        f"{name} {told(mean_interval(differences(rows, arm, measure)), factor, signed=True)}"
        for name, (measure, factor) in MEASURES.items()
    )


def score_table(rows: Rows) -> str:
    """Every arm's measures."""
    lines = []
    for arm, runs in rows.items():
        if runs:
            first = next(iter(runs.values()))
            cells = [
                told(mean_interval([measure(row) for row in runs.values()]), factor)
                for measure, factor in MEASURES.values()
            ]
            lines.append([NAMES[arm], f"{first['pairs']:,}", len(runs), *cells])
    return table(["arm", "pairs", "seeds", *MEASURES], lines)


def difference_table(rows: Rows) -> str:
    """Every arm minus C."""
    lines = []
    for arm, runs in rows.items():
        if arm != "c" and runs.keys() & rows["c"].keys():
            cells = [
                told(mean_interval(differences(rows, arm, measure)), factor, signed=True)
                for measure, factor in MEASURES.values()
            ]
            lines.append([f"{NAMES[arm]} - C", len(runs.keys() & rows["c"].keys()), *cells])
    return table(["difference", "seeds", *MEASURES], lines)


def group_table(rows: Rows, test: str) -> str:
    """A test by its groups."""
    groups = list(next(iter(rows["c"].values()))[test])
    lines = [
        [
            NAMES[arm],
            *(
                told(mean_interval([_share(row, group, test) for row in runs.values()]), 100)
                for group in groups
            ),
        ]
        for arm, runs in rows.items()
        if runs
    ]
    title = {"questions": "questions", "told_apart": "captions told apart"}[test]
    return table([title, *(f"{group}, %" for group in groups)], lines)


def data_table(out: Path, faults: str, rows: Rows) -> str:
    """What each arm is trained on: a quarter of its pairs of seed 0."""
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        for arm in rows:
            kind = "" if arm in FAULTLESS else faults
            data = data_of(out, kind, arm, 0, Path(scratch) / "pairs.json")
            facts = facts_of(*data, every=4)
            lines.append([NAMES[arm], *(f"{100 * share:.1f}" for share in facts.values())])
    return table(["arm", *(f"{name}, %" for name in facts)], lines)


def told(estimate: Estimate, factor: float, *, signed: bool = False) -> str:
    """A value with half its interval."""
    value = f"{factor * estimate.value:+.1f}" if signed else f"{factor * estimate.value:.1f}"
    if estimate.low is None:
        return value
    return f"{value} ± {factor * (estimate.value - estimate.low):.1f}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


if __name__ == "__main__":
    main()
