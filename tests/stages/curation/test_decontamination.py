"""Captions that overlap benchmarks, through the pipeline: what is rejected or measured again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import random_models
from commands import run
from synthvlm import Pipeline, Recipe
from synthvlm.errors import RecipeError

GOOD = [f"A red kite number {n} flies over the green hill, high above the sea." for n in range(12)]
QUESTION = "What is the old man in the long red coat holding above his head?"
PLANTED = "Look: the old man in the long red coat, holding above his head a lamp."
NEWCOMER = "a brown dog runs along the beach, next to a very tall lighthouse"
TEXTS = [*GOOD, PLANTED, NEWCOMER]


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    path = tmp_path / "captions.txt"
    path.write_text("\n".join(TEXTS) + "\n", "utf-8")
    return path


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    return write_benchmark(tmp_path / "private" / "vqa.jsonl", QUESTION)


def write_benchmark(path: Path, *questions: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    rows = [{"question": question, "answer": "a lamp"} for question in questions]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def overlap(*files: Path, **more: Any) -> str:
    rule = {"files": [str(file) for file in files], "text_fields": ["question", "answer"], **more}
    return f"curation.rules.benchmark_overlap={json.dumps(rule)}"


def curate(out: Path, captions: Path, *changes: str) -> dict[str, dict[str, Any]]:
    """Curate, and give the rows of ``captions/`` by text."""
    recipe = Recipe.load("tiny", captions=[captions], overrides=["run.shard_size=5", *changes])
    Pipeline(recipe, out).run("curate")
    files = sorted((out / "captions").glob("*.parquet"))
    return {row["text"]: row for file in files for row in pq.read_table(file).to_pylist()}


def rejected(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {text: row["rejected_by"] for text, row in found.items() if not row["kept"]}


def captions_by_rule(out: Path) -> Counter[str]:
    """How many captions each rule has measured in a run folder so far."""
    found: Counter[str] = Counter()
    for path in (out / "events").glob("*.jsonl"):
        for event in map(json.loads, path.read_text("utf-8").splitlines()):
            if event["event"] == "rule":
                found[event["rule"]] += event["captions"]
    return found


def test_a_planted_caption_is_rejected(tmp_path: Path, captions: Path, benchmark: Path) -> None:
    found = curate(tmp_path / "run", captions, overlap(benchmark))
    assert rejected(found) == {PLANTED: "benchmark_overlap"}
    # 15 words, hence 8 8-grams; the question shares "the old man ... above his head", 12 words.
    assert found[PLANTED]["benchmark_overlap"] == 5 / 8
    assert {found[text]["benchmark_overlap"] for text in GOOD} == {0.0}
    assert not rejected(curate(tmp_path / "run", captions, overlap(benchmark, max=0.7)))


def test_what_is_measured_again(tmp_path: Path, captions: Path, benchmark: Path) -> None:
    out = tmp_path / "run"

    def measured(*changes: str) -> tuple[dict[str, int], dict[str, str]]:
        """The captions that each rule measured, and what was rejected."""
        before = captions_by_rule(out)
        found = rejected(curate(out, captions, *changes))
        return dict(captions_by_rule(out) - before), found

    alone = {"benchmark_overlap": len(TEXTS)}
    others, _ = measured()
    assert "benchmark_overlap" not in others
    assert measured(overlap(benchmark)) == (alone, {PLANTED: "benchmark_overlap"})
    # Neither another bound nor another place measures again; other content and n-grams do.
    assert measured(overlap(benchmark, max=0.7)) == ({}, {})
    moved = benchmark.rename(tmp_path / "moved.jsonl")
    assert measured(overlap(moved)) == ({}, {PLANTED: "benchmark_overlap"})
    write_benchmark(moved, NEWCOMER)
    assert measured(overlap(moved)) == (alone, {NEWCOMER: "benchmark_overlap"})
    assert measured(overlap(moved, ngram=20)) == (alone, {NEWCOMER: "benchmark_overlap"})
    write_benchmark(moved, f"{NEWCOMER} by the sea")
    assert measured(overlap(moved, ngram=20)) == (alone, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), ("\n", "holds no text"), ('{"q": "a"}\n', "no field 'question'")],
)
def test_a_bad_benchmark_is_one_line_before_anything_is_measured(
    tmp_path: Path, captions: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "vqa.jsonl"
    if content is not None:
        path.write_text(content, "utf-8")
    with pytest.raises(RecipeError, match=message) as caught:
        curate(tmp_path / "run", captions, overlap(path))
    assert str(caught.value).startswith(f"benchmark_overlap: {path}")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "measures").exists()


def test_the_command_says_it_in_one_line(tmp_path: Path, captions: Path) -> None:
    command = ["curate", "tiny", "--captions", str(captions), "--out", str(tmp_path / "run")]
    result = run([*command, "--set", overlap(tmp_path / "none.jsonl")], tmp_path)
    assert result.code == 1
    problem = f"error: benchmark_overlap: {tmp_path / 'none.jsonl'}: no such file"
    assert result.err.splitlines() == [problem]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{}", r"benchmark_overlap\.files: field required"),
        ("{files: []}", r"benchmark_overlap\.files: .* at least 1 item"),
        ("{files: [a], text_fields: []}", r"benchmark_overlap\.text_fields: .* at least 1 item"),
        ("{files: [a], ngram: 0}", r"benchmark_overlap\.ngram"),
        ("{files: [a], max: null}", "needs min, max or both"),
        ("{files: [a], format: yaml}", r"benchmark_overlap\.format"),
    ],
)
def test_bad_settings_are_one_line(settings: str, message: str) -> None:
    change = f"curation.rules.benchmark_overlap={settings}"
    with pytest.raises(RecipeError, match=message) as caught:
        Recipe.load("tiny", captions=["c.txt"], overrides=[change])
    assert "\n" not in str(caught.value)


def test_the_card_names_the_benchmarks(tmp_path: Path, captions: Path, benchmark: Path) -> None:
    base = [
        f"generation.model={random_models.save_sd(tmp_path / 'sd')}",
        f"scoring.clip.model={random_models.save_clip(tmp_path / 'clip')}",
        *("generation.steps=1", "generation.height=32", "generation.width=32"),
        *("generation.candidates=1", "run.threads=1"),
    ]

    def card(*changes: str) -> str:
        recipe = Recipe.load("tiny", captions=[captions], overrides=[*base, *changes])
        Pipeline(recipe, tmp_path / "run").run("export")
        text = (tmp_path / "run" / "dataset" / "README.md").read_text("utf-8")
        return text.partition("## Making it again")[0]  # the recipe itself holds its paths

    assert "Captions were **not** checked for overlap with evaluation benchmarks." in card()
    checked = card(overlap(benchmark))
    assert "in evaluation benchmarks: `vqa.jsonl`. Rejected for it: 1." in checked
    assert "`benchmark_overlap` <= 0.0" in checked
    assert "private" not in checked
