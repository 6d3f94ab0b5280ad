"""The stage select with methods that look at more than scores, on one finished generation."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fake_models import run_with
from synthvlm.checks import verify
from synthvlm.errors import RecipeError
from synthvlm.pipeline import Pipeline, open_run, resumed_recipe
from synthvlm.progress.display import SilentProgress
from synthvlm.recipe import Recipe

COLOURS = ("red", "blue", "green")
ANIMALS = ("horse", "dog", "cat", "goose")


class Notes(SilentProgress):
    """Keeps the lines that are shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def generated(folder: Path, shard_size: int, **sources: int) -> Path:
    """A run of so many captions of each source, up to its images."""
    changes = []
    for name, count in sources.items():
        lines = [
            f"a {COLOURS[n % 3]} {ANIMALS[n % 4]} stands beside {name} barn {n}"
            for n in range(count)
        ]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
        changes.append(folder / f"{name}.txt")
    settings = [
        "generation.candidates=2",
        f"run.shard_size={shard_size}",
        "run.threads=1",
        "curation.rules.word_count={min: 1}",
        "curation.concepts={cap: 1000, concepts: [horse, dog, red]}",
    ]
    out = folder / f"run-{shard_size}"
    run_with(Recipe.load("tiny", captions=changes, overrides=settings), out, until="generate")
    return out


@pytest.fixture(scope="module")
def shards_of_five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generated(tmp_path_factory.mktemp("five"), 5, web=18, books=6)


@pytest.fixture(scope="module")
def one_shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generated(tmp_path_factory.mktemp("one"), 100, web=18, books=6)


Select = Callable[..., pa.Table]


@pytest.fixture
def select(shards_of_five: Path, tmp_path: Path) -> Select:
    """Select anew in a copy of a run."""

    def selected(
        method: str = "top", options: str = "{}", *more: str, of: Path = shards_of_five,
        progress: Any = None,
    ) -> pa.Table:  # fmt: skip
        out = tmp_path / of.name
        if not out.exists():
            shutil.copytree(of, out)
        changes = [f"selection.method={method}", f"selection.options={options}", *more]
        changes = ["selection.top_fraction=null", *changes]
        Pipeline(resumed_recipe(out, overrides=changes), out, progress=progress).run("select")
        return pq.read_table(out / "selection.parquet")

    return selected


QUOTAS = [
    ("{field: source, shares: equal}", 10),
    ("{field: concept, shares: equal}", 7),
    ("{field: word_count, bins: 2}", 9),
    ("{field: ssim_score, bins: [0.3, 0.6], shares: [0.2, 0.3, 0.5]}", 8),
    ("{clusters: 4, shares: equal}", 11),
    ("{clusters: 4, embeddings: image}", 12),
]


@pytest.mark.parametrize(("options", "count"), QUOTAS)
def test_quotas_do_not_depend_on_shards(
    select: Select, one_shard: Path, options: str, count: int
) -> None:
    columns = ["rank", "caption_id", "index", "clip_score", "ssim_score", "score"]
    top = f"selection.top_n={count}"
    table = select("quotas", options, top)
    assert table.num_rows == count
    assert table["score"].to_pylist() == sorted(table["score"].to_pylist(), reverse=True)
    assert len(set(table["shard"].to_pylist())) > 1
    other = select("quotas", options, top, of=one_shard)
    assert other.select(columns) == table.select(columns)


def test_a_quota_by_source_and_by_concept(select: Select) -> None:
    table = select("quotas", "{field: source, shares: equal}", "selection.top_n=10")
    sources = Counter(id.rpartition("-")[0] for id in table["caption_id"].to_pylist())
    assert sources == {"web": 5, "books": 5}
    # 24 captions: 8 red, 6 with a horse, 6 with a dog; a red horse counts as a horse.
    table = select("quotas", "{field: concept, shares: {horse: 1.0}}", "selection.top_n=6")
    rows = [int(id.rpartition("-")[2]) for id in table["caption_id"].to_pylist()]
    assert all(row % 4 == 0 for row in rows)


def test_a_run_whose_selection_reads_more_is_verified_and_left_alone(
    select: Select, tmp_path: Path
) -> None:
    select("quotas", "{clusters: 4}", "selection.top_n=9")
    run, recipe = open_run(str(tmp_path / "run-5"))
    assert not verify(run, recipe).bad
    before = (tmp_path / "run-5/done/select/00000.json").stat().st_mtime_ns
    select("quotas", "{clusters: 4}", "selection.top_n=9")
    assert (tmp_path / "run-5/done/select/00000.json").stat().st_mtime_ns == before


def test_more_pairs_than_there_are_is_told_each_time(select: Select, tmp_path: Path) -> None:
    for _ in range(2):
        progress = Notes()
        table = select("top", "{}", "selection.top_n=100", progress=progress)
        assert table.num_rows == 24
        assert (
            "warning: selection: selection.top_n asks for 100 pairs and 24 are selected: there "
            "are 24 pairs"
        ) in progress.lines
    lowest = sorted(table["score"].to_pylist())[10]
    progress = Notes()
    more = ["selection.top_n=20", f"selection.min_scores={{score: {lowest}}}"]
    assert select("top", "{}", *more, progress=progress).num_rows == 14
    assert (
        "warning: selection: selection.top_n asks for 20 pairs and 14 are selected: there are 24 "
        "pairs, 14 of them have the scores of selection.min_scores"
    ) in progress.lines
    run, _ = open_run(str(tmp_path / "run-5"))
    facts = run.markers("select")[0].facts
    assert [line for line in facts["notes"] if "top_n" in line]
    progress = Notes()
    assert select("top", "{}", "selection.top_n=24", "selection.min_scores={}").num_rows == 24
    assert not [line for line in progress.lines if "top_n" in line]


def test_what_selectors_ask_for_has_to_be_there(select: Select, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="pairs have no 'sources', did you mean 'source'"):
        select("quotas", "{field: sources}")
    with pytest.raises(RecipeError, match="there are no concepts: name them"):
        select("quotas", "{field: concept}", "curation.concepts=null")


def test_without_embeddings_the_scorers_that_have_them_are_named(
    select: Select, tmp_path: Path
) -> None:
    select("top")
    run, _ = open_run(str(tmp_path / "run-5"))
    for shard, marker in run.markers("generate").items():
        name = marker.file("pairs")
        assert name is not None
        table = run.read_table(name)
        nulls = pa.nulls(len(table), table.schema.field("text_embedding").type)
        place = table.column_names.index("text_embedding")
        file = run.write_table("pairs", shard, table.set_column(place, "text_embedding", nulls))
        files = [file, *(f for f in marker.files if f.path != name)]
        run.commit("generate", shard, marker.fingerprint, files, marker.facts)
    with pytest.raises(RecipeError, match=r"embeddings of captions.*such as clip or siglip: --set"):
        select("quotas", "{clusters: 4}")
