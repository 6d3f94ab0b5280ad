"""Near-duplicates through the pipeline: what stays, in whose place, and where it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from fakes.endpoint import FakeEndpoint
from synthvlm import Pipeline, Recipe
from synthvlm.captions.duplicates import minhash
from synthvlm.captions.duplicates.near_duplicates import THRESHOLD
from synthvlm.errors import RecipeError
from synthvlm.progress.display import PlainProgress
from synthvlm.recipe import RECIPES
from synthvlm.recipe.curation import NearDuplicateSettings

ON = "curation.near_duplicates={similarity: 0.6}"
SCENES = [
    "A red kite flies over the green hill, high above the sea.",
    "Two old men play chess under a tree, in a quiet park.",
    "The train leaves a small station, full of waving children.",
    "Fresh bread lies on a wooden table, beside a jar of honey.",
    "An owl sits on a broken fence, watching the moonlit field.",
    "Blue boats rest in the harbour, while gulls circle overhead.",
    "My grandmother knits a long scarf, close to the warm stove.",
]
#: The last word but one of each scene changed.
EDITED = [" another ".join(scene.rsplit(" ", 2)[::2]) for scene in SCENES]


def write(path: Path, captions: dict[str, str]) -> Path:
    lines = [json.dumps({"id": id, "caption": text}) for id, text in captions.items()]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def curate(out: Path, files: list[Path], *changes: str, size: int = 5) -> dict[str, dict[str, Any]]:
    """Curate, and give the rows of ``captions/`` by id."""
    recipe = Recipe.load("tiny", captions=files, overrides=[f"run.shard_size={size}", *changes])
    Pipeline(recipe, out).run("curate")
    tables = [pq.read_table(file) for file in sorted((out / "captions").glob("*.parquet"))]
    return {row["id"]: row for table in tables for row in table.to_pylist()}


def kept(rows: dict[str, dict[str, Any]]) -> set[str]:
    return {id for id, row in rows.items() if row["kept"]}


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    return write(tmp_path / "scenes.jsonl", {f"s{n}": text for n, text in enumerate(SCENES)})


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    """Every scene edited, and one of them as it is."""
    captions = {f"e{n}": text for n, text in enumerate(EDITED)} | {"same": SCENES[2]}
    return write(tmp_path / "edited.jsonl", captions)


def test_the_first_stays_and_is_named(tmp_path: Path, scenes: Path, edited: Path) -> None:
    rows = curate(tmp_path / "run", [scenes, edited], ON)
    assert kept(rows) == {f"s{n}" for n in range(7)}
    for n in range(7):
        row = rows[f"e{n}"]
        assert (row["rejected_by"], row["duplicate_of"]) == ("near_duplicate", f"s{n}")
    assert (rows["same"]["rejected_by"], rows["same"]["duplicate_of"]) == ("duplicate", "s2")
    off = curate(tmp_path / "run", [scenes, edited])
    assert kept(off) == {*rows} - {"same"}


def test_the_order_of_sources_decides_which_of_two_stays(
    tmp_path: Path, scenes: Path, edited: Path
) -> None:
    rows = curate(tmp_path / "run", [edited, scenes], ON)
    assert kept(rows) == {f"e{n}" for n in range(7)}
    twins = {id: row["duplicate_of"] for id, row in rows.items() if not row["kept"]}
    # Equal texts are told first: s2 goes for the sake of "same", and that for the sake of e2.
    assert twins == {f"s{n}": f"e{n}" for n in range(7)} | {"s2": "same", "same": "e2"}


def test_shard_size_decides_nothing(tmp_path: Path, scenes: Path, edited: Path) -> None:
    results = [
        curate(tmp_path / str(size), [scenes, edited], ON, size=size) for size in (1, 4, 100)
    ]
    assert results[0] == results[1] == results[2]
    assert len(kept(results[0])) == 7


def test_a_threshold_decides_again(tmp_path: Path, scenes: Path, edited: Path) -> None:
    strict = curate(tmp_path / "run", [scenes, edited], "curation.near_duplicates.similarity=0.99")
    assert len(kept(strict)) == 14
    assert len(kept(curate(tmp_path / "run", [scenes, edited], ON))) == 7


def test_no_model_is_asked_about_them(tmp_path: Path, scenes: Path, edited: Path) -> None:
    with FakeEndpoint("Yes") as server:
        judge = {"model": "fake", "min": 0.5, "endpoint": {"url": server.base_url}}
        change = f"curation.rules.judge={json.dumps(judge)}"
        rows = curate(tmp_path / "run", [scenes, edited], ON, change)
        assert len(server.received) == 7
    assert {id for id, row in rows.items() if row["judge"] is not None} == kept(rows)


def test_the_funnel_the_warning_and_the_report_tell(
    tmp_path: Path,
    scenes: Path,
    edited: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(minhash, "FULL", 1)
    # Alike enough to share buckets, too different to be near-duplicates: 9 of 25 n-grams.
    birds = ["robin", "heron", "eagle", "raven", "finch", "stork", "swift", "crane", "egret"]
    alike = [f"See how the {bird}, {bird[::-1]} and {bird[1:]}, sits there." for bird in birds]
    more = write(tmp_path / "alike.jsonl", dict(zip(birds, alike, strict=True)))
    recipe = Recipe.load("tiny", captions=[scenes, edited, more], overrides=[ON])
    Pipeline(recipe, tmp_path / "run", progress=PlainProgress()).run("curate")
    shown = capsys.readouterr().out
    steps = [line.split() for line in shown.splitlines() if line.startswith("  ")]
    names = [step[0] for step in steps]
    assert names[names.index("duplicate") + 1] == "near_duplicate"
    after = steps[names.index("near_duplicate")]
    assert int(after[1]) - int(after[2]) == 7
    assert after[4] != "-"
    assert "warning: near_duplicate: " in shown
    assert "kept captions share words with so many others" in shown


def test_the_default_is_that_of_the_component_and_no_recipe_has_it_on() -> None:
    assert NearDuplicateSettings().similarity == THRESHOLD
    for name in RECIPES.lines():
        assert Recipe.load(name, captions=["c.jsonl"]).curation.near_duplicates is None


@pytest.mark.parametrize("similarity", ["0", "1.01", "-1", ".nan", "much"])
def test_a_similarity_out_of_range_is_one_line(similarity: str) -> None:
    change = f"curation.near_duplicates.similarity={similarity}"
    with pytest.raises(RecipeError, match=r"curation\.near_duplicates\.similarity") as caught:
        Recipe.load("tiny", overrides=[change])
    assert len(str(caught.value).splitlines()) == 1
