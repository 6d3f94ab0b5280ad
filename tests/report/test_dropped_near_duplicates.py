"""Near-duplicates in the report: each beside the caption that was kept in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest
from report_folder import Builder, caption

from synthvlm.report.curation import read_near_duplicates
from synthvlm.run_folder.folder import RunFolder


def near(id: str, text: str, twin: str) -> dict:
    return caption(id, text, "near_duplicate", duplicate_of=twin)


def test_dropped_and_kept_stand_side_by_side(build: Callable[..., Builder]) -> None:
    builder = build()
    hostile = "a <b>red</b> ball {{7*7}}"
    builder.curated(0, [caption("k", "the <em>kept</em> ball"), caption("e", "no twin of any")])
    builder.curated(
        1, [near("n", hostile, "k"), caption("d", "an equal one", "duplicate", duplicate_of="e")]
    )
    page = builder.page()
    section = page.section("near-duplicates")
    assert f"{hostile} the <em>kept</em> ball" in section
    assert "an equal one" not in section
    assert "no twin of any" not in section
    assert not page.all("em")
    assert "Near-duplicates nearly the same text as an earlier one" in page.section("funnel")
    assert "nearly the same text as k" in page.section("funnel")
    assert "#near-duplicates" in {link["href"] for link in page.all("a")}


def test_ten_are_drawn_by_hash_whatever_the_shards(build: Callable[..., Builder]) -> None:
    builder = build()
    rows = [near(f"n{n}", f"dropped {n}", f"k{n}") for n in range(40)]
    builder.curated(0, [caption(f"k{n}", f"kept {n}") for n in range(40)])
    builder.curated(1, rows[:15])
    builder.curated(2, rows[15:])
    found = read_near_duplicates(builder.run, builder.run.markers("curate"))
    assert len(found) == 10
    assert all(pair.kept == pair.dropped.replace("dropped", "kept") for pair in found)
    builder.curated(1, rows[30:])
    builder.curated(2, rows[:30])
    again = read_near_duplicates(builder.run, builder.run.markers("curate"))
    assert again == found
    # By hash, not the first ones.
    assert {pair.dropped for pair in found} != {f"dropped {n}" for n in range(10)}


def test_a_twin_that_is_not_there_yet(build: Callable[..., Builder]) -> None:
    builder = build()
    builder.curated(1, [near("n", "a ball", "k")])
    assert "a ball (not found)" in builder.page().section("near-duplicates")


def test_no_section_without_any(whole: Builder) -> None:
    assert 'id="near-duplicates"' not in whole.page().html


def test_they_are_looked_for_only_where_a_step_removed_some(
    whole: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, ...]] = []
    read_table = RunFolder.read_table

    def remembered(run: RunFolder, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        read.append((name.split("/")[0], *(columns or ())))
        return read_table(run, name, columns)

    monkeypatch.setattr(RunFolder, "read_table", remembered)
    whole.page()
    columns = ("captions", "id", "rejected_by", "duplicate_of")
    assert columns not in read
    assert "measures" not in {folder for folder, *_ in read}
    whole.curated(2, [near("n", "a ball", "a")])
    whole.page()
    assert columns in read
