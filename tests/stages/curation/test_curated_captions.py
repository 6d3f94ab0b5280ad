"""Reading kept and rejected captions: queries, samples, reasons, bounds by language."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from synthvlm.data import caption_schema
from synthvlm.errors import RunFolderError
from synthvlm.recipe import Recipe
from synthvlm.run_folder.folder import RunFolder
from synthvlm.stages.curation.curated import CuratedCaptions, Query

RULES = ("char_count", "perplexity")
GERMAN = "Ein brauner Hund l\u00e4uft bei Sonnenuntergang den Sandstrand entlang"


def row(id: str, text: str, length: float, reason: str | None = None, **more: Any) -> dict:
    values = dict.fromkeys(caption_schema(RULES).names)
    values |= {"id": id, "source": "test", "row": 0, "text": text, "char_count": length}
    return {**values, "kept": reason is None, "rejected_by": reason, **more}


def curated(folder: Path, *shards: Sequence[dict]) -> RunFolder:
    run = RunFolder(folder / "run")
    run.prepare()
    for number, rows in enumerate(shards):
        table = pa.Table.from_pylist(list(rows), caption_schema(RULES))
        facts: dict[str, Any] = {"captions": len(rows), "kept": 0, "measures": "m"}
        facts |= {reason: 1 for one in rows if (reason := one["rejected_by"])}
        run.commit("curate", number, "c", [run.write_table("captions", number, table)], facts)
    return run


def recipe(rule: str = "{min: 20, max: 100}") -> Recipe:
    perplexity = "curation.rules.perplexity={max: 100, model: tiny}"
    return Recipe.load("tiny", overrides=[f"curation.rules.char_count={rule}", perplexity])


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return curated(
        tmp_path,
        [
            row("short", "A Dog", 5, "char_count"),
            row("nearly", "a dog on a lawn.", 18, "char_count"),
            row("narrow", "the dog is on a lawn.", 21, perplexity=50.0),
            row("sure", "\u00c9l\u00e9phant " * 6, 60, perplexity=20.0),
        ],
        [
            row("twin", "a dog on a lawn, again", 22, "duplicate", duplicate_of="narrow"),
            row("broken", "", 0, "unreadable", problem="line is no JSON", char_count=None),
            row("odd", "dog dog dog dog dog dog dog dog", 31, "perplexity", perplexity=104.0),
        ],
    )


def ids(run: RunFolder, **query: Any) -> str:
    return " ".join(one.id for one in CuratedCaptions(run, recipe(), Query(**query)))


def test_queries_narrow_down_together(run: RunFolder) -> None:
    assert ids(run) == "short nearly narrow sure twin broken odd"
    assert ids(run, kept=True) == "narrow sure"
    assert ids(run, kept=False) == "short nearly twin broken odd"
    # What the rule rejected, and what it measured and is kept: not what others rejected.
    assert ids(run, rule="char_count") == "short nearly narrow sure"
    assert ids(run, rule="char_count", kept=False) == "short nearly"
    assert ids(run, rule="duplicate") == "twin"
    assert ids(run, search="A dog") == "short nearly twin"
    assert ids(run, search="\u00e9L\u00c9") == "sure"
    assert ids(run, search="dog.*") == ""
    # 18 and 22 are 10 % from 20; 104 is within 10 % of 100.
    assert ids(run, near_bound=True) == "nearly narrow odd"
    assert ids(run, near_bound=True, rule="char_count") == "nearly narrow"
    assert ids(run, near_bound=True, rule="perplexity", kept=False, search="dog") == "odd"


def test_reasons_and_measures_are_told(run: RunFolder) -> None:
    all_captions = CuratedCaptions(run, recipe(), Query())
    found = {one.id: one for one in all_captions}
    assert (all_captions.captions, all_captions.matches) == (7, 7)
    assert found["sure"].rejected_by is found["sure"].reason is None
    assert found["nearly"].reason == "18, must be from 20 to 100"
    assert found["twin"].reason == "same text as narrow"
    assert found["broken"].reason == "line is no JSON"
    assert list(found["broken"].measures) == []
    assert found["odd"].measures["perplexity"].value == 104.0
    assert found["odd"].measures["char_count"].bounds == (20, 100)


def test_samples_are_the_same_in_any_order_of_shards(run: RunFolder, tmp_path: Path) -> None:
    chosen = CuratedCaptions(run, recipe(), Query(kept=False)).sample(2)
    rejected = [row(i, i, 5, "char_count") for i in ["broken", "odd", "twin", "nearly", "short"]]
    other = curated(tmp_path / "other", *([one] for one in rejected))
    reader = CuratedCaptions(other, recipe(), Query())
    assert {c.id for c in reader.sample(2)} == {c.id for c in chosen}
    assert (reader.captions, reader.matches) == (5, 5)
    # The smaller sample is part of the larger one, which is in the order of the run.
    larger = [one.id for one in CuratedCaptions(run, recipe(), Query(kept=False)).sample(4)]
    assert {one.id for one in chosen} < set(larger)
    assert larger == [i for i in ["short", "nearly", "twin", "broken", "odd"] if i in larger]
    assert len(CuratedCaptions(run, recipe(), Query()).sample(99)) == 7


def test_a_caption_in_another_language_is_near_to_its_own_bounds(tmp_path: Path) -> None:
    text = GERMAN
    run = curated(tmp_path, [row("de", text, len(text)), row("en", "x", len(text), "char_count")])
    settings = recipe(f"{{max: 10, languages: {{de: {{max: {len(text) + 2}}}}}}}")
    (german,) = CuratedCaptions(run, settings, Query(near_bound=True))
    assert (german.id, german.measures["char_count"].bounds) == ("de", (None, len(text) + 2))


def test_what_cannot_be_asked_is_refused(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"'lenght' is no rule .*valid: .*char_count, .*dupl"):
        CuratedCaptions(run, recipe(), Query(rule="lenght"))
    with pytest.raises(RunFolderError, match="duplicate does not have a bound other than 0"):
        CuratedCaptions(run, recipe(), Query(rule="duplicate", near_bound=True))
    empty = RunFolder(tmp_path / "empty")
    empty.prepare()
    with pytest.raises(RunFolderError, match=r"synthvlm curate --out .*empty"):
        CuratedCaptions(empty, recipe(), Query())
