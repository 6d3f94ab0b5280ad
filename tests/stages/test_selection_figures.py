"""What a selection covers: exact figures of a small run, in its marker, report and card."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_models import run_with
from synthvlm.recipe import Recipe
from synthvlm.run.kept_recipe import open_folder
from synthvlm.stages import selection_figures
from synthvlm.stages.selection_figures import (
    concept_table,
    figure_table,
    figure_tables,
    shift_note,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty captions, two of three with a horse; the six that cover most are selected."""
    folder = tmp_path_factory.mktemp("figures")
    lines = [f"a {'dog' if n % 3 else 'horse'} stands beside barn {n} here" for n in range(30)]
    (folder / "captions.txt").write_text("\n".join(lines) + "\n")
    settings = [
        "generation.candidates=1",
        "run.shard_size=7",
        "run.threads=1",
        "selection={method: coverage, top_n: 6, near_duplicate_images: {max_similarity: 0.999}}",
    ]
    recipe = Recipe.load("tiny", captions=[folder / "captions.txt"], overrides=settings)
    run_with(recipe, folder / "run")
    return folder / "run"


def vectors_of(out: Path) -> tuple[list[str], np.ndarray, np.ndarray, dict[str, float]]:
    run, _ = open_folder(str(out))
    rows: list[dict[str, Any]] = []
    scores = {}
    for marker in run.markers("generate").values():
        rows += run.read_table(str(marker.file("pairs"))).to_pylist()
        for row in run.read_table(str(marker.file("candidates"))).to_pylist():
            scores[row["caption_id"]] = row["score"]
    both = [np.array([row[f"{kind}_embedding"] for row in rows], np.float32)
            for kind in ("text", "image")]  # fmt: skip
    unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in both]
    return [row["caption_id"] for row in rows], unit[0], unit[1], scores


def test_figures_are_those_of_all_captions_where_they_are_few(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, recipe = open_folder(str(finished))
    marker = run.markers("select")[0]
    figures = marker.facts["figures"]
    ids, texts, images, scores = vectors_of(finished)
    selected = run.read_table("selection.parquet")["caption_id"].to_pylist()
    best = sorted(ids, key=lambda id: (-scores[id], id))[: len(selected)]
    assert figures["captions"]["of"] == len(ids) == 30
    assert figures["twins"]["of"] == len(selected) == 6
    for name, chosen in (("selected", selected), ("top", best)):
        rows = [ids.index(id) for id in chosen]
        covered = (texts @ texts[rows].T).max(axis=1).mean()
        assert figures["captions"][name] == pytest.approx(covered, abs=1e-5)
        near = images[rows] @ images[rows].T - 2 * np.eye(len(rows))
        assert figures["twins"][name] == pytest.approx((near.max(axis=1) > 0.98).mean(), abs=1e-6)
        mean = np.mean([scores[id] for id in chosen])
        assert figures["score"][name] == pytest.approx(mean, abs=1e-6)
        column = 2 if name == "selected" else 3
        for word, every in (("horse", 0), ("dog", None)):
            is_named = [(int(id.rpartition("-")[2]) % 3 == 0) == (every == 0) for id in chosen]
            (line,) = [line for line in figures["concepts"] if line[0] == word]
            assert line[column] == pytest.approx(np.mean(is_named), abs=1e-6)
            assert line[1] == pytest.approx(1 / 3 if every == 0 else 2 / 3, abs=1e-6)
    # Of samples about the same.
    monkeypatch.setattr(selection_figures, "_CAPTIONS", 15)
    monkeypatch.setattr(selection_figures, "_TEXTS", 5)
    table = run.read_table("selection.parquet")
    sampled = selection_figures.selection_figures(
        run, recipe, run.markers("curate"), run.markers("generate"), 30, table, table
    )
    assert 5 < sampled["captions"]["of"] < 30
    for name in ("score", "captions", "twins", "concepts_of"):
        assert sampled[name]["selected"] == sampled[name]["top"]
    assert all(line[2:] == [line[2]] * 2 for line in sampled["concepts"])
    assert abs(sampled["captions"]["selected"] - figures["captions"]["selected"]) < 0.1


def test_the_report_and_the_card_show_them(finished: Path) -> None:
    facts = open_folder(str(finished))[0].markers("select")[0].facts
    page = re.sub(r"<[^>]+>", " ", (finished / "report/index.html").read_text())
    card = (finished / "dataset/README.md").read_text()
    for row in figure_table(facts["figures"])[1:] + concept_table(facts["figures"])[1:]:
        assert re.search(r"\s+".join(map(re.escape, row)), page), row
        assert "| " + " | ".join(row) + " |" in card.replace("\\", ""), row
    assert "What the selection covers" in page
    assert "## Coverage" in card
    dropped = facts["near_duplicates"]
    assert f"{dropped} pairs are left out because a better one has nearly the same image" in page
    assert f"| pairs left out as near-duplicate images | {dropped} |" in card.replace("\\", "")
    assert "the best 6 by coverage" in page


@pytest.mark.parametrize(
    ("before", "after", "count", "is_told"),
    [
        (0.48, 0.31, 10_000, True),
        (0.48, 0.33, 10_000, False),  # by less than a third
        (0.48, 0.31, 40, False),  # by chance, perhaps
        (0.20, 0.31, 10_000, True),
        (0.02, 0.05, 10_000, False),  # too rare
        (0.10, 0.0, 10_000, True),
    ],
)
def test_a_share_that_shifts_is_told(
    before: float, after: float, count: int, is_told: bool
) -> None:
    figures = {
        "concepts": [["sky", 0.5, 0.5, 0.5], ["background", before, after, 0.2]],
        "concepts_of": {"selected": count},
    }
    line = (
        f"it shifts what captions name, in % of the curated and of the selected ones: "
        f"'background' {before:.0%} and {after:.0%}; selection.method=coverage or quotas keeps "
        f"more of it"
    )
    assert shift_note(figures) == (line if is_told else None)


def test_without_embeddings_or_texts_there_is_the_mean_score() -> None:
    assert shift_note({"score": {"selected": 0.5, "top": 0.6}}) is None
    table = figure_table({"score": {"selected": 0.5, "top": None}})
    assert table[1:] == [["mean score", "0.500", ""]]


@pytest.mark.parametrize("figures", [{"score": 1}, {"scare": {}}, {"score": {"top": "x"}}, [1]])
def test_damaged_figures_are_none(figures: Any) -> None:
    assert figure_tables(figures) is None
    assert figure_tables({}) == []
