"""Exactly N pairs within a budget of images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import synthvlm
from fake_models import FakeGenerator, use_models
from synthvlm import Pipeline, Recipe
from synthvlm.checks import verify
from synthvlm.checks.status import status
from synthvlm.errors import RecipeError, TargetNotReachedError
from synthvlm.generators.base import GeneratedImages
from synthvlm.run.kept_recipe import open_folder
from synthvlm.stages.generation.prompts import TakenCaptions, place_of
from synthvlm.stages.generation.target import Quota, next_round

CAPTIONS = [f"A red kite number {n} flies over the green hill, near the sea." for n in range(60)]


class Generator(FakeGenerator):
    """Is interrupted at one of its batches."""

    def __init__(self) -> None:
        self.stops_at = 10**9

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> GeneratedImages:
        if self.generated + len(prompts) > self.stops_at:
            self.stops_at = 10**9
            raise KeyboardInterrupt
        return super().generate(prompts, seeds)


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> Generator:
    generator = Generator()
    use_models(monkeypatch, generator)
    return generator


def run(
    out: Path, pairs: int = 12, max_images: int = 240, *changes: str, until: str = "export"
) -> list[str]:
    """Run to a target; the ids of the selection, best first."""
    file = out.parent / "captions.txt"
    file.write_text("\n".join(CAPTIONS) + "\n")
    changes = (
        "run.shard_size=16",
        "run.batch_size=4",
        "generation.candidates=2",
        "curation.rules.special_char_ratio=null",
        "selection.top_fraction=null",
        "selection.min_scores={clip_score: 0.7}",
        f"target={{pairs: {pairs}, max_images: {max_images}}}",
        *changes,
    )
    Pipeline(Recipe.load("tiny", captions=[file], overrides=changes), out).run(until)
    return selected(out)


def selected(out: Path) -> list[str]:
    return list(pq.read_table(out / "selection.parquet")["caption_id"].to_pylist())


def taken(out: Path) -> set[str]:
    """The captions that have candidates."""
    files = (out / "candidates").glob("*.parquet")
    return {id for file in files for id in pq.read_table(file)["caption_id"].to_pylist()}


def test_exactly_so_many_pairs_from_no_more_captions_than_needed(
    tmp_path: Path, generator: Generator
) -> None:
    ids = run(tmp_path / "run")
    assert len(ids) == len(set(ids)) == 12
    rows = pq.read_table(tmp_path / "run" / "selection.parquet").to_pylist()
    assert min(row["clip_score"] for row in rows) >= 0.7
    # Half of all captions have a candidate with such a score.
    assert 12 < len(taken(tmp_path / "run")) < 48
    assert generator.generated == 2 * len(taken(tmp_path / "run"))


def test_the_summary_counts_the_candidates_of_all_rounds(
    tmp_path: Path, generator: Generator
) -> None:
    file = tmp_path / "captions.txt"
    file.write_text("\n".join(CAPTIONS) + "\n")
    changes = ["run.shard_size=4", "run.batch_size=4", "generation.candidates=2"]
    changes += ["scoring.clip.minimum=0.8", "curation.rules.special_char_ratio=null"]
    changes += ["selection.top_fraction=null", "target={pairs: 12, max_images: 240}"]
    recipe = Recipe.load("tiny", captions=[file], overrides=changes)
    counts = Pipeline(recipe, tmp_path / "run").run("generate").summaries[-1].counts
    files = (tmp_path / "run" / "candidates").glob("*.parquet")
    rows = [status for f in files for status in pq.read_table(f)["status"].to_pylist()]
    assert (counts["generated"], counts["rejected"]) == (len(rows), rows.count("rejected"))


def test_a_finished_target_generates_nothing_again(tmp_path: Path, generator: Generator) -> None:
    ids = run(tmp_path / "run")
    generated = generator.generated
    assert run(tmp_path / "run") == ids
    assert generator.generated == generated
    folder = open_folder(tmp_path / "run")
    assert not verify(*folder).findings
    assert status(*folder).next == "report"
    assert f"{generated} of {generated} done" in status(*folder).text()


def test_the_same_pairs_after_any_number_of_interruptions(
    tmp_path: Path, generator: Generator
) -> None:
    expected = run(tmp_path / "whole")
    total = generator.generated
    generator.generated = 0
    for stop in range(4, total, 12):
        generator.stops_at = stop
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run")
    assert run(tmp_path / "run") == expected
    assert taken(tmp_path / "run") == taken(tmp_path / "whole")
    assert generator.generated == total


def test_a_raised_target_gives_what_it_gives_at_once(tmp_path: Path, generator: Generator) -> None:
    expected = run(tmp_path / "whole", 20)
    total = generator.generated
    generator.generated = 0
    run(tmp_path / "run", 12)
    assert run(tmp_path / "run", 20) == expected
    assert generator.generated <= total + 8  # what the smaller one took beyond the larger's rounds
    run(tmp_path / "run", 12)
    assert generator.generated <= total + 8


def test_near_duplicate_images_do_not_count(tmp_path: Path, generator: Generator) -> None:
    ids = run(tmp_path / "run", 12, 240, "selection.near_duplicate_images={max_similarity: 0.9}")
    twins = pq.read_table(tmp_path / "run" / "near-duplicates.parquet")
    assert len(ids) == 12
    assert len(twins) > 2
    assert not {*ids} & {*twins["caption_id"].to_pylist()}
    changes = ("selection.min_scores={}", "selection.near_duplicate_images={max_similarity: 0.01}")
    with pytest.raises(TargetNotReachedError, match=r"add captions, or have .*; the data set"):
        run(tmp_path / "run", 50, 240, *changes)


def test_near_copies_of_reference_images_do_not_count(tmp_path: Path, generator: Generator) -> None:
    before = run(tmp_path / "run", 12)
    for file in (tmp_path / "run" / "pairs").glob("*.parquet"):
        for pair in pq.read_table(file, columns=["caption_id", "image"]).to_pylist():
            if pair["caption_id"] in before[:2]:
                (tmp_path / f"{pair['caption_id']}.png").write_bytes(pair["image"])
    after = run(
        tmp_path / "run", 12, 240, f"selection.image_overlap={{images: ['{tmp_path}/*.png']}}"
    )
    assert len(after) == 12
    copies = pq.read_table(tmp_path / "run" / "image-overlap.parquet")["caption_id"].to_pylist()
    assert {*before[:2]} <= {*copies}
    assert not {*after} & {*copies}


def test_without_the_target_all_captions_are_generated(
    tmp_path: Path, generator: Generator
) -> None:
    run(tmp_path / "run")
    run(tmp_path / "run", 12, 240, "target=null")
    assert len(taken(tmp_path / "run")) == 60
    assert generator.generated == 120


def test_a_spent_budget_is_an_error_after_the_data_set(
    tmp_path: Path, generator: Generator
) -> None:
    with pytest.raises(TargetNotReachedError, match=r"of 25 pairs; 50 images.*max_images"):
        run(tmp_path / "run", 25, 51)
    assert generator.generated == 50
    assert 0 < len(selected(tmp_path / "run")) < 25
    assert (tmp_path / "run" / "dataset" / "README.md").exists()


def test_too_few_captions_are_an_error_after_the_data_set(
    tmp_path: Path, generator: Generator
) -> None:
    with pytest.raises(TargetNotReachedError, match=r"of 55 pairs; all 60 captions .* add"):
        run(tmp_path / "run", 55, 1000)
    assert generator.generated == 120
    with pytest.raises(TargetNotReachedError) as error:  # the next run says so, too
        run(tmp_path / "run", 55, 1000)
    assert generator.generated == 120
    assert "lower the minimum scores" in str(error.value)
    assert f"\n{error.value}\n" in status(*open_folder(tmp_path / "run")).text()


def test_another_minimum_counts_again_and_generates_what_is_missing(
    tmp_path: Path, generator: Generator
) -> None:
    expected = run(tmp_path / "whole", 12, 240, "selection.min_scores={clip_score: 0.8}")
    run(tmp_path / "run")
    assert run(tmp_path / "run", 12, 240, "selection.min_scores={clip_score: 0.8}") == expected
    assert taken(tmp_path / "run") == taken(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["selection.top_n=3"], "selection.top_n=null"),
        (["selection.top_fraction=0.2"], "selection.top_fraction=null"),
        (["target.max_images=23"], "target.max_images=24"),
    ],
)
def test_what_contradicts_a_target_is_refused(
    tmp_path: Path, changes: list[str], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        run(tmp_path / "run", 12, 240, *changes)


@given(st.data())
def test_rounds_end_at_the_target_or_at_the_last_caption_or_image(data: Any) -> None:
    available = data.draw(st.integers(0, 300))
    gives = data.draw(st.lists(st.booleans(), min_size=available, max_size=available))
    needed, budget = data.draw(st.integers(1, 120)), data.draw(st.integers(0, 300))
    quota, rounds = Quota(needed, available), 0
    while more := next_round({"": quota}, budget - quota.taken):
        taken = quota.taken + more[""]
        assert quota.taken < taken <= min(available, budget)
        quota = Quota(needed, available, taken, sum(gives[:taken]))
        rounds += 1
    assert quota.reached >= needed or quota.taken == min(available, budget)
    assert rounds < 20


def run_with_quotas(
    out: Path, *more: str, options: str = "{field: source, shares: equal}"
) -> Counter[str]:
    """Run with a second source of 12 captions; how many pairs of each source are selected."""
    out.parent.mkdir(exist_ok=True)
    few = out.parent / "few.jsonl"
    texts = [f"A green boat number {n} lies by the pier." for n in range(12)]
    few.write_text("".join(json.dumps({"caption": text}) + "\n" for text in texts))
    many = out.parent / "captions.txt"
    sources = f"sources=[{{path: {many}, name: many}}, {{path: {few}, name: few}}]"
    ids = run(
        out, 8, 240, "selection.method=quotas", f"selection.options={options}", sources, *more
    )
    return Counter(id.split("-")[0] for id in ids)


def test_quotas_are_filled_and_thin_ones_first(tmp_path: Path, generator: Generator) -> None:
    assert run_with_quotas(tmp_path / "run") == {"many": 4, "few": 4}
    assert generator.generated < 2 * 40
    first = generator.generated
    assert run_with_quotas(tmp_path / "run") == {"many": 4, "few": 4}
    assert generator.generated == first
    assert not verify(*open_folder(tmp_path / "run")).findings


def test_other_shares_are_other_quotas(tmp_path: Path, generator: Generator) -> None:
    run_with_quotas(tmp_path / "run")
    shares = "{field: source, shares: {few: 0.25, many: 0.75}}"
    assert run_with_quotas(tmp_path / "run", options=shares) == {"many": 6, "few": 2}
    ids = selected(tmp_path / "run")
    run_with_quotas(tmp_path / "whole", options=shares)
    assert ids == selected(tmp_path / "whole")
    with pytest.raises(TargetNotReachedError, match=r"missing of quotas: fwe 8; all 0 captions"):
        run_with_quotas(tmp_path / "run", options="{field: source, shares: {fwe: 1.0}}")


def test_the_shortfall_of_a_quota_is_named(tmp_path: Path, generator: Generator) -> None:
    with pytest.raises(TargetNotReachedError, match=r"missing of quotas: few \d; all 12 captions"):
        run_with_quotas(tmp_path / "run", options="{field: source, shares: {few: 1.0}}")
    # The budget is not spent on captions that cannot help.
    assert generator.generated == 24


def test_a_quota_by_a_rule_goes_by_the_edges_of_its_bins(
    tmp_path: Path, generator: Generator
) -> None:
    rule = "curation.rules.char_count={min: 1}"
    options = "{field: char_count, bins: [50], shares: equal}"
    counts = run_with_quotas(tmp_path / "run", rule, options=options)
    assert counts == {"many": 4, "few": 4}  # the second source's captions are shorter


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{clusters: 4}", "a field of captions"),
        ("{field: clip_score}", "a field of captions"),
        ("{field: char_count}", "by their edges"),
    ],
)
def test_quotas_that_only_images_have_are_refused(
    tmp_path: Path, options: str, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        run_with_quotas(tmp_path / "run", "curation.rules.char_count={min: 1}", options=options)


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 30), st.text(max_size=3))
def test_a_shard_is_reached_where_one_of_its_captions_may_be_taken(
    shard: int, other: int, seed: int, id: str
) -> None:
    taken = TakenCaptions(seed, {"a": place_of(seed, other, id), "b": place_of(seed, 0, id)})
    assert not TakenCaptions(seed, {}).reaches(shard)
    assert taken.reaches(other)
    for quota in ("a", "b"):
        assert taken.reaches(shard) or not taken.includes(shard, id, quota)
    first = {place_of(seed, one, "")[:24] for one in (other, 0)}
    assert taken.reaches(shard) == (place_of(seed, shard, "")[:24] <= max(first))


def test_for_a_marked_pair_another_is_generated(tmp_path: Path, generator: Generator) -> None:
    out = tmp_path / "run"
    before = run(out)
    synthvlm.mark(out, before[0], before[3])
    after = run(out)
    assert len(after) == len(before) == 12
    assert not set(after) & {before[0], before[3]}
    synthvlm.mark(out, before[0], before[3], remove=True)
    assert run(out) == before
