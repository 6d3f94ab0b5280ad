"""Make ``results.md`` and ``results.svg``: ``python -m experiments.claim.summary --out .claim``."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.claim.arms import data_of
from experiments.claim.run import ARMS, EQUAL_STEPS
from experiments.claim.truth import right_share
from synthvlm.estimates import Estimate, mean_interval

HERE = Path(__file__).parent
NAMES = {
    "none": "no stage 1",
    "a": "A: the web",
    "b": "B: curated, generated, selected",
    "c": "C: generated, at random",
    "d": "D: the web, B's size",
    "e": "E: the web's pictures, captioned",
    "b-no-ssim": "B, SSIM weight 0",
    "b-uncurated": "B, curation off",
    "b-quotas": "B, quotas by what captions name",
}
COLOURS = {
    "none": "#999",
    "a": "#1f77b4",
    "b": "#d62728",
    "c": "#ff7f0e",
    "d": "#2ca02c",
    "e": "#9467bd",
}
Results = dict[tuple[str, bool], list[dict[str, Any]]]
Metric = Callable[[dict[str, Any]], float | None]


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(".claim"))
    parser.add_argument("--to", type=Path, default=HERE / "results.md", help="the figure beside it")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    results: Results = defaultdict(list)
    for file in sorted((args.out / "results").glob("*.json")):
        result = json.loads(file.read_text())
        results[result["arm"], result["equal_steps"]].append(result)
    counts = sorted({int(n) for rows in results.values() for row in rows for n in row["stage2"]})
    to_b = [(("b", False), (arm, False)) for arm in ARMS if arm != "b"]
    at_equal_steps = [((arm, True), ("a", False)) for arm in EQUAL_STEPS]
    at_equal_steps += [
        (("b-quotas", True), (arm, True)) for arm in EQUAL_STEPS if arm != "b-quotas"
    ]
    sections = {
        "The arms' data": [data_table(args.out, results)],
        "One epoch each": score_tables(results, ARMS, counts, equal=False),
        "As many steps as A takes": score_tables(results, ("a", *EQUAL_STEPS), counts, equal=True)
        if any(equal for _, equal in results)
        else [],
        "Differences by seed, one epoch each": difference_tables(results, counts, to_b),
        "Differences by seed, as many steps as A takes": difference_tables(
            results, counts, at_equal_steps
        ),
        "Language kept": [language_table(results, counts)],
    }
    parts = [
        "# Results",
        "Made by `summary.py` of what `arms.py` and `run.py` left. Means over the seeds, in per "
        "cent, with 95 % intervals (Student's t).",
    ]
    for title, blocks in sections.items():
        if blocks:
            parts += [f"## {title}", *blocks]
    args.to.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    args.to.with_suffix(".svg").write_text(figure(results, counts), encoding="utf-8")


def data_table(out: Path, results: Results) -> str:
    """Pairs, how many are right, what they teach, what they took."""
    rows = []
    for arm in ARMS:
        found = results.get((arm, False))
        if not found:
            continue
        right = "" if arm == "none" else f"{100 * right_share(*data_of(out, arm)):.1f}"
        captions = mean_interval([row["stage1"]["captions"] for row in found])
        time = out / "seconds" / f"{arm}.json"
        seconds = f"{json.loads(time.read_text())['cpu_s']:.0f}" if time.exists() else ""
        steps = found[0]["stage1"]["steps"] if arm != "none" else 0
        rows.append([NAMES[arm], f"{found[0]['pairs']:,}", right, seconds, steps, told(captions)])
    return table(
        ["arm", "pairs", "right, %", "CPU s to make", "steps", "captions right after stage 1, %"],
        rows,
    )


def metrics(count: int) -> dict[str, Metric]:
    """What is told of a stage 2."""

    def share(test: str, *groups: str) -> Metric:
        def of(row: dict[str, Any]) -> float | None:
            tests = row["stage2"].get(str(count))
            if tests is None:
                return None
            kept = [v for k, v in tests["tests"][test].items() if not groups or k in groups]
            shares = [float(right / asked) for right, asked in kept]
            return sum(shares) / len(shares)

        return of

    return {
        "easy-VQA colour": share("easy-vqa", "colour"),
        "easy-VQA shape": share("easy-vqa", "shape"),
        "easy-VQA yes/no": share("easy-vqa", "yes-no"),
        "world, all topics": share("world"),
        "world, relation": share("world", "relation"),
        "world, place": share("world", "place"),
    }


def score_tables(
    results: Results, arms: Sequence[str], counts: Sequence[int], *, equal: bool
) -> list[str]:
    """A table for each number of instruction samples."""
    tables = []
    for count in counts:
        rows, seeds = [], set()
        for arm in arms:
            found = results.get((arm, equal and arm in EQUAL_STEPS))
            values = [
                [value for row in found or [] if (value := metric(row)) is not None]
                for metric in metrics(count).values()
            ]
            if values[0]:
                rows.append([NAMES[arm], *(told(mean_interval(column)) for column in values)])
                seeds.add(len(values[0]))
        if rows:
            number = " or ".join(map(str, sorted(seeds)))
            tables.append(f"{count:,} instruction samples, {number} seeds:")
            tables.append(table(["arm", *metrics(count)], rows))
    return tables


def difference_tables(
    results: Results,
    counts: Sequence[int],
    pairs: Sequence[tuple[tuple[str, bool], tuple[str, bool]]],
) -> list[str]:
    """The first of each pair of arms minus the second, both with the same seed."""
    tables = []
    for count in counts:
        rows = []
        for first, second in pairs:
            of_seed = {row["seed"]: row for row in results.get(first, [])}
            both = [(of_seed.get(row["seed"]), row) for row in results.get(second, [])]
            cells = []
            for metric in metrics(count).values():
                values = [(metric(x), metric(y)) for x, y in both if x is not None]
                found = [x - y for x, y in values if x is not None and y is not None]
                if found:
                    cells.append(told(mean_interval(found), signed=True))
            if cells:
                name = NAMES[first[0]].partition(":")[0]
                rows.append([f"{name} - {NAMES[second[0]]}", *cells])
        if rows:
            tables += [
                f"{count:,} instruction samples:",
                table(["difference", *metrics(count)], rows),
            ]
    return tables


def language_table(results: Results, counts: Sequence[int]) -> str:
    """Questions about facts in words, before and after stage 2."""

    def right(tests: dict[str, list[int]]) -> float:
        return sum(r for r, _ in tests.values()) / sum(n for _, n in tests.values())

    rows = []
    for arm in ARMS:
        found = results.get((arm, False), [])
        if not found:
            continue
        before = [right(row["stage1"]["tests"]["text"]) for row in found]
        cells = [told(mean_interval(before))]
        for n in counts:
            after = [
                right(row["stage2"][str(n)]["tests"]["text"])
                for row in found
                if str(n) in row["stage2"]
            ]
            cells.append(told(mean_interval(after)) if after else "")
        rows.append([NAMES[arm], *cells])
    return table(["arm", "before stage 2", *(f"after {n:,} samples" for n in counts)], rows)


def told(estimate: Estimate, *, signed: bool = False) -> str:
    """A share in per cent, with half its interval."""
    value = f"{100 * estimate.value:+.1f}" if signed else f"{100 * estimate.value:.1f}"
    if estimate.low is None:
        return value
    return f"{value} ± {100 * (estimate.value - estimate.low):.1f}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def figure(results: Results, counts: Sequence[int]) -> str:
    """Accuracy by instruction samples, a line for each arm: colour and shape of easy-VQA, world."""
    shown = [arm for arm in COLOURS if (arm, False) in results]
    panels = ("easy-VQA colour", "easy-VQA shape", "world, all topics")
    width, height, left, top = 300, 240, 48, 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{len(panels) * width + 40}" '
        f'height="{height + 110}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, panel in enumerate(panels):
        x0 = number * width + left
        lines: dict[str, list[tuple[int, Estimate]]] = {}
        for arm in shown:
            for count in counts:
                values = [
                    value
                    for row in results.get((arm, False), [])
                    if (value := metrics(count)[panel](row)) is not None
                ]
                if values:
                    lines.setdefault(arm, []).append((count, mean_interval(values)))
        ends = [e for line in lines.values() for _, e in line]
        low = min(e.value if e.low is None else e.low for e in ends)
        high = max(e.value if e.high is None else e.high for e in ends)

        def y_of(value: float, low: float = low, high: float = high) -> float:
            return top + (high - value) / max(high - low, 1e-9) * (height - top - 20)

        def x_of(count: int, x0: int = x0) -> float:
            return x0 + counts.index(count) / max(len(counts) - 1, 1) * (width - left - 20)

        parts.append(f'<text x="{x0}" y="18" font-weight="bold">{panel}, %</text>')
        for share in (low, (low + high) / 2, high):
            y = y_of(share)
            parts.append(
                f'<text x="{x0 - 8}" y="{y + 4}" text-anchor="end">{100 * share:.0f}</text>'
            )
            parts.append(f'<path d="M{x0} {y}h{width - left - 20}" stroke="#ddd"/>')
        for count in counts:
            parts.append(
                f'<text x="{x_of(count)}" y="{height}" text-anchor="middle">{count:,}</text>'
            )
        for place, (arm, line) in enumerate(lines.items()):
            colour = COLOURS[arm]
            shift = 3 * (place - len(lines) / 2)
            points = " ".join(f"{x_of(n) + shift:.1f},{y_of(e.value):.1f}" for n, e in line)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
            for n, e in line:
                x = x_of(n) + shift
                if e.low is not None and e.high is not None:
                    bar = f"M{x:.1f} {y_of(e.low):.1f}V{y_of(e.high):.1f}"
                    parts.append(f'<path d="{bar}" stroke="{colour}"/>')
                parts.append(
                    f'<circle cx="{x:.1f}" cy="{y_of(e.value):.1f}" r="3" fill="{colour}"/>'
                )
    parts.append(
        f'<text x="{left}" y="{height + 22}">instruction samples; bars are 95 % intervals</text>'
    )
    for place, arm in enumerate(shown):
        x, y = left + place % 3 * 290, height + 48 + place // 3 * 22
        parts.append(f'<circle cx="{x}" cy="{y - 4}" r="5" fill="{COLOURS[arm]}"/>')
        parts.append(f'<text x="{x + 12}" y="{y}">{NAMES[arm]}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()
