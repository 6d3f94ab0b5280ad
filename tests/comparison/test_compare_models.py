"""Results of models side by side."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from pair_files import TINY_SETTINGS, llava, sample_pairs
from synthvlm.comparison.command import compare_command
from synthvlm.errors import CaptionSourceError, RecipeError
from synthvlm.estimates import Estimate, paired_difference, share_interval
from synthvlm.progress.display import SilentProgress


def row(benchmark: str, figure: str, ours: Estimate | None, questions: int | None) -> Any:
    values = None if ours is None else {"value": ours.value, "low": ours.low, "high": ours.high}
    return {"benchmark": benchmark, "figure": figure, "ours": values, "questions": questions}


def percent(right: int, total: int) -> Estimate:
    share = share_interval(right, total)
    assert share.low is not None
    assert share.high is not None
    return Estimate(100 * share.value, 100 * share.low, 100 * share.high)


def results(
    folder: Path, rows: list[Any], scores: dict[str, float] | None = None, asked: str = "sum"
) -> Path:
    """A folder as ``synthvlm eval --out`` leaves it; questions with even ids are of colour."""
    folder.mkdir(parents=True)
    values = {"model": {"name": f"org/{folder.name}"}, "limit": None, "rows": rows}
    (folder / "results.json").write_text(json.dumps(values))
    if scores is not None:
        lines: list[Any] = [{"questions": asked}]
        for id, score in scores.items():
            lines.append({"id": id, "group": "" if int(id) % 2 else "colour", "score": score})
        (folder / "local").mkdir()
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "local/scores.jsonl").write_text(text)
    return folder


def compared(*paths: Path) -> list[Any]:
    text = compare_command(
        list(map(str, paths)), TINY_SETTINGS, as_json=True, progress=SilentProgress()
    )
    rows = json.loads(text)["rows"]
    assert isinstance(rows, list)
    return rows


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two models that mostly agree, the second a little better."""
    draw = random.Random(0)
    first = {str(n): float(draw.random() < 0.6) for n in range(400)}
    second = {id: 1.0 if draw.random() < 0.1 else score for id, score in first.items()}
    folders = []
    for name, scores in (("small", first), ("large", second)):
        colour = [score for id, score in scores.items() if int(id) % 2 == 0]
        rows = [
            row("local", "all", percent(int(sum(scores.values())), 400), 400),
            row("local", "colour", percent(int(sum(colour)), 200), 200),
            row("POPE", "accuracy", Estimate(80.0 if name == "small" else 83.0, None, None), None),
        ]
        folders.append(results(tmp_path / name, rows, scores))
    return folders[0], folders[1]


def test_differences_are_paired_by_question(two: tuple[Path, Path]) -> None:
    overall, colour, pope = compared(*two)
    scores = [
        [json.loads(line) for line in (path / "local/scores.jsonl").read_text().splitlines()[1:]]
        for path in two
    ]
    for found, wanted in ((overall, "all"), (colour, "colour")):
        ours, theirs = (
            [100 * one["score"] for one in some if wanted in ("all", one["group"])]
            for some in reversed(scores)
        )
        gap = paired_difference(ours, theirs)
        told = found["figures"][1]
        assert told["difference"] == {"value": gap.value, "low": gap.low, "high": gap.high}
        assert told["paired_questions"] == len(ours)
        assert gap.low is not None
        assert gap.low > 0
    assert pope["figures"][1]["difference"] == {"value": 3.0, "low": None, "high": None}
    assert pope["figures"][1]["paired_questions"] is None
    assert overall["figures"][0]["difference"] is None


def test_without_scores_of_answers_it_is_unpaired_and_says_so(two: tuple[Path, Path]) -> None:
    (paired, *_) = compared(*two)
    (two[0] / "local/scores.jsonl").unlink()
    (found, *_) = compared(*two)
    gap, sharp = found["figures"][1]["difference"], paired["figures"][1]["difference"]
    assert found["figures"][1]["paired_questions"] is None
    assert gap["value"] == pytest.approx(sharp["value"])
    assert gap["high"] - gap["low"] > 2 * (sharp["high"] - sharp["low"])
    text = compare_command(list(map(str, two)), TINY_SETTINGS, progress=SilentProgress())
    assert "unpaired: there are no scores of single answers of both" in text


def test_the_unpaired_interval_is_newcombes(tmp_path: Path) -> None:
    # Worked out from R. G. Newcombe's formula (1998, method 10), with z = 1.96. Wilson's limits l
    # and u of each share are the roots of |p - x| = z sqrt(x (1 - x) / n):
    #   48/80 = 0.6: (2 n p + z² ± z sqrt(z² + 4 n p q)) / 2 (n + z²)
    #     = (99.8416 ± 17.5976) / 167.6832 = 0.4905, 0.7004;
    #   56/70 = 0.8: (115.8416 ± 13.6726) / 147.6832 = 0.6918, 0.8770.
    # With d = 0.2: d - sqrt((0.8 - 0.6918)² + (0.7004 - 0.6)²) = 0.2 - 0.1476 = 0.0524, and
    # d + sqrt((0.8770 - 0.8)² + (0.6 - 0.4905)²) = 0.2 + 0.1339 = 0.3339.
    one = results(tmp_path / "one", [row("x", "accuracy", percent(48, 80), 80)])
    two = results(tmp_path / "two", [row("x", "accuracy", percent(56, 70), 70)])
    gap = compared(one, two)[0]["figures"][1]["difference"]
    assert gap["value"] == pytest.approx(20)
    assert gap["low"] == pytest.approx(5.24, abs=0.005)
    assert gap["high"] == pytest.approx(33.39, abs=0.005)
    text = compare_command([str(one), str(two)], TINY_SETTINGS, progress=SilentProgress())
    assert "x, accuracy: not of equally many questions (70, 80)" in text


def test_an_unpaired_interval_of_all_right_and_all_wrong(tmp_path: Path) -> None:
    # As above: 10/10 has Wilson's limits 10 / 13.8416 = 0.7225 and 1, 0/20 has 0 and
    # 3.8416 / 23.8416 = 0.1611; so 1 - sqrt(0.2775² + 0.1611²) = 0.6791, and 1 + 0.
    one = results(tmp_path / "one", [row("x", "accuracy", percent(0, 20), 20)])
    two = results(tmp_path / "two", [row("x", "accuracy", percent(10, 10), 10)])
    gap = compared(one, two)[0]["figures"][1]["difference"]
    assert (gap["low"], gap["high"]) == pytest.approx((67.91, 100), abs=0.005)


def test_a_single_paired_question_has_no_interval(tmp_path: Path) -> None:
    one = results(tmp_path / "one", [row("local", "all", percent(0, 1), 1)], {"1": 0.0})
    two = results(tmp_path / "two", [row("local", "all", percent(1, 1), 1)], {"1": 1.0})
    told = compared(one, two)[0]["figures"][1]
    assert told["difference"] == {"value": 100.0, "low": None, "high": None}
    assert told["paired_questions"] == 1


def test_ids_of_other_questions_are_not_paired(tmp_path: Path) -> None:
    scores = {str(n): float(n % 3 > 0) for n in range(9)}
    rows = [row("local", "all", percent(6, 9), 9)]
    one = results(tmp_path / "one", rows, scores)
    two = results(tmp_path / "two", rows, scores, asked="other")
    assert compared(one, two)[0]["figures"][1]["paired_questions"] is None


def test_a_benchmark_of_one_model_is_a_row_without_a_difference(tmp_path: Path) -> None:
    one = results(tmp_path / "one", [row("x", "accuracy", percent(5, 9), 9)])
    two = results(
        tmp_path / "two", [row("x", "accuracy", None, None), row("y", "F1", percent(1, 2), 2)]
    )
    found = compared(one, two)
    assert [(a["benchmark"], a["figures"][1]["difference"]) for a in found] == [
        ("x", None),
        ("y", None),
    ]
    text = compare_command([str(one), str(two)], TINY_SETTINGS, progress=SilentProgress())
    assert "x, accuracy: not measured by two" in text
    assert "y, F1: not measured by one" in text


def test_a_model_and_a_data_set_are_refused_in_one_line(tmp_path: Path) -> None:
    model = results(tmp_path / "model", [row("x", "accuracy", percent(5, 9), 9)])
    pairs = llava(tmp_path / "pairs", sample_pairs(2))
    with pytest.raises(RecipeError, match="model holds results of a model and pairs is a data set"):
        compare_command([str(pairs), str(model)], TINY_SETTINGS, progress=SilentProgress())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": [1], "model": {"name": "x"}}', "{"])
def test_damaged_results_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(CaptionSourceError, match="no result of `synthvlm eval`, or damaged"):
        compare_command([str(tmp_path)], TINY_SETTINGS, progress=SilentProgress())


def test_results_without_a_figure_are_one_line(tmp_path: Path) -> None:
    path = results(tmp_path / "one", [row("x", "accuracy", None, None)])
    with pytest.raises(CaptionSourceError, match="no benchmark was run"):
        compare_command([str(path)], TINY_SETTINGS, progress=SilentProgress())


def test_the_comparison_is_written(tmp_path: Path, two: tuple[Path, Path]) -> None:
    out = tmp_path / "out"
    text = compare_command(
        list(map(str, two)), TINY_SETTINGS, out=str(out), progress=SilentProgress()
    )
    written = json.loads((out / "comparison.json").read_text())
    assert written["rows"] == compared(*two)
    assert "large - small" in text
    assert "400 paired" in text
