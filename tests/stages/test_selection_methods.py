"""The stage select with methods that look at more than scores, on one finished generation."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fake_models import run_with
from synthvlm.checks import verify
from synthvlm.errors import CaptionSourceError, RecipeError
from synthvlm.exporters.card_image_overlap import ImageOverlapFacts
from synthvlm.pipeline import Pipeline
from synthvlm.progress.display import SilentProgress
from synthvlm.recipe import Recipe
from synthvlm.report.collect import SelectionFacts
from synthvlm.run.kept_recipe import open_folder, resumed_recipe
from synthvlm.stages.card_facts import card_facts
from synthvlm.stages.current import CurrentWork
from synthvlm.stages.near_duplicate_images import difference_hash

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


METHODS = [
    ("quotas", "{field: source, shares: equal}", 10),
    ("quotas", "{field: concept, shares: equal}", 7),
    ("quotas", "{field: word_count, bins: 2}", 9),
    ("quotas", "{field: ssim_score, bins: [0.3, 0.6], shares: [0.2, 0.3, 0.5]}", 8),
    ("quotas", "{clusters: 4, shares: equal}", 11),
    ("quotas", "{clusters: 4, embeddings: image}", 12),
    ("coverage", "{}", 10),
    ("coverage", "{embeddings: both, score_weight: 2.0}", 13),
]


@pytest.mark.parametrize(("method", "options", "count"), METHODS)
def test_a_method_does_not_depend_on_shards(
    select: Select, one_shard: Path, method: str, options: str, count: int
) -> None:
    columns = ["rank", "caption_id", "index", "clip_score", "ssim_score", "score"]
    top = f"selection.top_n={count}"
    table = select(method, options, top)
    assert table.num_rows == count
    assert len(set(table["shard"].to_pylist())) > 1
    other = select(method, options, top, of=one_shard)
    assert other.select(columns) == table.select(columns)
    scores = table["score"].to_pylist()
    assert (scores == sorted(scores, reverse=True)) == (method == "quotas")


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
    run, recipe = open_folder(str(tmp_path / "run-5"))
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
    run, _ = open_folder(str(tmp_path / "run-5"))
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


def change_pairs(out: Path, column: str, change: Callable[[pa.Table], Any]) -> None:
    """Replace a column of ``pairs/`` in every shard."""
    run, _ = open_folder(str(out))
    for shard, marker in run.markers("generate").items():
        name = marker.file("pairs")
        assert name is not None
        table = run.read_table(name)
        place = table.column_names.index(column)
        values = pa.array(change(table), table.schema.field(column).type)
        file = run.write_table("pairs", shard, table.set_column(place, column, values))
        files = [file, *(f for f in marker.files if f.path != name)]
        run.commit("generate", shard, marker.fingerprint, files, marker.facts)


def test_without_embeddings_the_scorers_that_have_them_are_named(
    select: Select, tmp_path: Path
) -> None:
    select("top")
    change_pairs(tmp_path / "run-5", "text_embedding", lambda table: [None] * len(table))
    with pytest.raises(RecipeError, match=r"embeddings of captions.*such as clip or siglip: --set"):
        select("quotas", "{clusters: 4}")


def test_of_near_duplicate_images_the_best_stays_and_the_others_name_it(
    select: Select, tmp_path: Path, one_shard: Path
) -> None:
    everything = select("top").to_pylist()
    table = select("top", "{}", "selection.near_duplicate_images={max_similarity: 0.9}")
    twins = pq.read_table(tmp_path / "run-5/near-duplicates.parquet").to_pylist()
    run, recipe = open_folder(str(tmp_path / "run-5"))
    vectors = {}
    for marker in run.markers("generate").values():
        rows = run.read_table(str(marker.file("pairs")), ["caption_id", "image_embedding"])
        vectors |= {row["caption_id"]: np.array(row["image_embedding"]) for row in rows.to_pylist()}
    expected: dict[str, str] = {}
    for row in everything:  # best first
        id = row["caption_id"]
        better = [one["caption_id"] for one in everything[: row["rank"] - 1]]
        kept = [one for one in better if one not in expected]
        near = [one for one in kept if vectors[one] @ vectors[id] > 0.9]
        expected |= {id: near[0]} if near else {}
    assert 2 < len(expected) < 20
    assert {row["caption_id"]: row["kept_caption_id"] for row in twins} == expected
    assert all(row["similarity"] > 0.9 and row["distance"] is None for row in twins)
    kept = [row["caption_id"] for row in everything if row["caption_id"] not in expected]
    assert table["caption_id"].to_pylist() == kept
    assert run.markers("select")[0].facts["near_duplicates"] == len(expected)
    assert not verify(run, recipe).bad
    # Before any method, whatever the shards.
    change = "selection.near_duplicate_images={max_similarity: 0.9}"
    other = select("coverage", "{}", change, "selection.top_n=6", of=one_shard)
    assert set(other["caption_id"].to_pylist()) <= set(kept)
    assert pq.read_table(tmp_path / "run-100/near-duplicates.parquet").to_pylist() == twins
    select("top", "{}", "selection.near_duplicate_images=null")
    assert not (tmp_path / "run-5/near-duplicates.parquet").exists()


def test_equal_images_are_found_by_their_hash_which_is_computed_once(
    select: Select, tmp_path: Path
) -> None:
    everything = select("top").to_pylist()
    out = tmp_path / "run-5"
    change_pairs(out, "image", lambda table: [table["image"][0].as_py()] * len(table))
    change = "selection.near_duplicate_images={max_similarity: null, max_hash_distance: 2}"
    table = select("top", "{}", change)
    best = {}
    for row in everything:
        best.setdefault(row["shard"], row["caption_id"])
    assert sorted(table["caption_id"].to_pylist()) == sorted(best.values())
    twins = pq.read_table(out / "near-duplicates.parquet").to_pylist()
    shard_of = {row["caption_id"]: row["shard"] for row in everything}
    assert all(row["kept_caption_id"] == best[shard_of[row["caption_id"]]] for row in twins)
    assert {(row["similarity"], row["distance"]) for row in twins} == {(None, 0)}
    stored = sorted((path.name, path.stat().st_mtime_ns) for path in out.glob("image-hashes/*"))
    assert len(stored) == len(best)
    select("top", "{}", change, "selection.top_n=3")
    run, recipe = open_folder(str(out))
    assert stored == sorted((p.name, p.stat().st_mtime_ns) for p in out.glob("image-hashes/*"))
    assert "image-hashes" not in {finding.stage for finding in verify(run, recipe).findings}


def picture(seed: int) -> Image.Image:
    """Soft blotches of colour."""
    rng = np.random.default_rng(seed)
    blotches = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
    return blotches.resize((64, 64), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, format: str) -> bytes:
    sink = io.BytesIO()
    image.save(sink, format)
    return sink.getvalue()


@pytest.fixture
def with_pictures(select: Select, tmp_path: Path, shards_of_five: Path, one_shard: Path) -> Path:
    """Runs whose images are pictures: that of row n of the captions `web` has seed n."""

    def pictures(table: pa.Table) -> list[bytes]:
        ids = [id.split("-") for id in table["caption_id"].to_pylist()]
        return [encoded(picture(int(n) + 100 * (s == "books")), "png") for s, n in ids]

    for of in (shards_of_five, one_shard):
        select("top", of=of)
        change_pairs(tmp_path / of.name, "image", pictures)
    return tmp_path


OVERLAP = "selection.image_overlap={{images: [{}]}}"


@pytest.mark.usefixtures("with_pictures")
def test_near_copies_of_reference_images_are_left_out_and_name_them(
    select: Select, tmp_path: Path, one_shard: Path
) -> None:
    folder, out = tmp_path / "photos", tmp_path / "run-5"
    folder.mkdir()
    for seed in (2, 300, 301):
        picture(seed).save(folder / f"{seed}.png")
    picture(7).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "flipped.jpg", quality=60)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    everything = select("top").to_pylist()
    progress = Notes()
    change = OVERLAP.format(folder)
    table = select("top", "{}", change, "selection.top_n=24", progress=progress)
    copies = {
        row["caption_id"]: row for row in pq.read_table(out / "image-overlap.parquet").to_pylist()
    }
    reasons = {id: (row["reference"], row["flipped"], row["share"]) for id, row in copies.items()}
    assert reasons == {
        "web-2": (f"{folder}/2.png", False, 1.0),
        "web-7": (f"{folder}/flipped.jpg", True, pytest.approx(1.0, abs=0.02)),
    }
    scores = {row["caption_id"]: row["score"] for row in everything}
    assert all(row["score"] == scores[id] and row["similarity"] > 0.9 for id, row in copies.items())
    kept = [row["caption_id"] for row in everything if row["caption_id"] not in copies]
    assert table["caption_id"].to_pylist() == kept
    broken = f"{folder}/broken.jpg: the original image cannot be used: it is of no known format"
    assert progress.lines[-2:] == [
        "warning: selection: selection.top_n asks for 24 pairs and 22 are selected: there are 24 "
        "pairs, 2 are left out as copies of reference images",
        "warning: selection: 1 of 5 reference images cannot be read, so nothing was compared with "
        f"them; the first: {broken}",
    ]
    run, recipe = open_folder(str(out))
    captions, images = run.markers("curate"), run.markers("generate")
    facts = card_facts(run, recipe, captions, images)
    assert ("pairs left out as near copies of reference images", 2) in facts.funnel
    assert facts.image_overlap == ImageOverlapFacts(["photos"], 4, 1, 0.9, 2)
    assert SelectionFacts.of(run.markers("select")[0]).near_copies == 2
    stages = {finding.stage for finding in verify(run, recipe).findings}
    assert not stages & {"image-overlap", "select"}
    # Whatever the shards, and before any method.
    other = select("coverage", "{}", change, "selection.top_n=6", of=one_shard)
    assert set(other["caption_id"].to_pylist()) <= set(kept)
    again = pq.read_table(tmp_path / "run-100/image-overlap.parquet").to_pylist()
    assert {row["caption_id"]: row for row in again} == copies
    select("top", "{}", "selection.image_overlap=null")
    assert not (out / "image-overlap.parquet").exists()


def test_references_are_looked_for_before_anything_is_generated(tmp_path: Path) -> None:
    (tmp_path / "no-pictures").mkdir()
    for name, problem in (("absent", "no such file"), ("no-pictures", "there are no pictures")):
        change = OVERLAP.format(tmp_path / name)
        with pytest.raises(CaptionSourceError, match=f"image_overlap.images: .*{problem}"):
            run_with(Recipe.load("tiny", overrides=[change]), tmp_path / "run", until="select")
    assert not (tmp_path / "run" / "pairs").exists()
    assert not (tmp_path / "run" / "measure").exists()


@pytest.mark.usefixtures("with_pictures")
def test_images_are_compared_again_only_where_references_have_changed(
    select: Select, tmp_path: Path
) -> None:
    folder, out = tmp_path / "photos", tmp_path / "run-5"
    folder.mkdir()
    picture(2).save(folder / "2.png")
    change = OVERLAP.format(folder)
    assert select("top", "{}", change, "selection.top_n=null").num_rows == 23

    def stored() -> list[tuple[str, int]]:
        return sorted((path.name, path.stat().st_mtime_ns) for path in out.glob("image-overlap/*"))

    def outdated() -> str | None:
        run, recipe = open_folder(str(out))
        found = CurrentWork(run, recipe).outdated
        return found and found.stage

    before = stored()
    assert len(before) == 5
    more = "selection.image_overlap.max_similarity=0.95"
    assert select("top", "{}", change, more, "selection.top_n=3").num_rows == 3
    assert stored() == before
    # One shard that was lost, as if the run had been killed before its marker.
    (out / "done/image-overlap/00003.json").unlink()
    assert select("top", "{}", change, "selection.top_n=null").num_rows == 23
    assert [old == new for old, new in zip(before, stored(), strict=True)].count(False) == 1
    before = stored()
    folder.rename(tmp_path / "away")
    assert outdated() == "export", "references that are not here count as they were"
    with pytest.raises(CaptionSourceError, match=r"^selection.image_overlap.images: .*no such"):
        select("top", "{}", change)
    (tmp_path / "away").rename(folder)
    picture(3).save(folder / "2.png")
    assert outdated() == "select"
    assert select("top", "{}", change).num_rows == 23
    copies = pq.read_table(out / "image-overlap.parquet")
    assert copies["caption_id"].to_pylist() == ["web-3"]
    assert not {name for name, _ in before} & {name for name, _ in stored()}
    (folder / "2.png").write_bytes(b"broken")
    with pytest.raises(RecipeError, match=r"no image can be read: .*2.png: .*no known format$"):
        select("top", "{}", change)


def test_the_difference_hash_compares_neighbours_from_left_to_right() -> None:
    def hash_of(pixels: np.ndarray) -> int:
        sink = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(sink, "png")
        return difference_hash(sink.getvalue())

    rising = np.tile(np.arange(9) * 20, (8, 1))
    assert hash_of(rising) == 2**64 - 1
    assert hash_of(rising[:, ::-1]) == 0
    corner = np.zeros((8, 9))
    corner[0, 1] = 255  # brighter than its left neighbour, and the next one is darker
    assert hash_of(corner) == 1 << 63
    wide = np.kron(rising, np.ones((16, 16)))
    assert hash_of(wide) == hash_of(np.stack([wide] * 3, axis=2)) == 2**64 - 1
