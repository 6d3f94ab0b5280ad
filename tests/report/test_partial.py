"""Runs that are not complete, and runs in which nothing came out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from report_folder import Builder, candidate, caption, image_bytes, pair

from synthvlm.data import Preview


def test_nothing_done(build: Callable[..., Builder]) -> None:
    page = build().page()
    assert "No captions read yet" in page.text
    assert page.text.count("is not done") == 4
    assert not {"funnel", "scores", "gallery"} & page.ids()


def test_only_measured(build: Callable[..., Builder]) -> None:
    builder = build()
    builder.measured(0, [caption("a"), caption("b")])
    page = builder.page()
    assert "2 captions read." in page.text
    assert "The stage curate is not done" in page.text
    assert "Captions kept" not in page.text


def test_only_curated(build: Callable[..., Builder]) -> None:
    builder = build()
    builder.curated(0, [caption("a"), caption("b", "?", "alnum_ratio")])
    page = builder.page()
    assert "Captions kept 1 50.0% of 2" in page.section("main")
    assert "The stage generate is not done" in page.text
    assert {"funnel", "time", "recipe"} <= page.ids()
    assert not {"scores", "gallery", "best-of"} & page.ids()


def test_no_caption_kept(build: Callable[..., Builder]) -> None:
    builder = build()
    builder.curated(0, [caption("b", "?", "alnum_ratio")])
    builder.generated(0, [])
    builder.selected(top_fraction=0.2)
    page = builder.page()
    assert "Captions kept" in page.section("funnel")
    assert not {"scores", "gallery"} & page.ids()


def test_no_caption_at_all(build: Callable[..., Builder]) -> None:
    builder = build()
    builder.curated(0, [])
    assert "0 captions read" in builder.page().text


def test_every_candidate_failed(build: Callable[..., Builder]) -> None:
    builder = build()
    builder.curated(0, [caption("a")])
    builder.generated(0, [candidate("a", index, None) for index in range(4)])
    builder.selected()
    page = builder.page()
    assert "0 ok, 4 failed" in page.section("funnel")
    assert not {"scores", "gallery"} & page.ids()


def test_not_selected_yet(build: Callable[..., Builder]) -> None:
    builder = build()
    builder.curated(0, [caption("a")])
    builder.generated(0, [candidate("a", 0, 0.3, chosen=True)], [pair("a", 0)])
    page = builder.page()
    assert "no selection yet" in page.section("part-best")
    assert "mean of all pairs" in page.text
    assert "below the cut" not in page.text


def test_nothing_selected(build: Callable[..., Builder]) -> None:
    builder = build("selection.min_scores.score=9.0")
    builder.curated(0, [caption("a")])
    builder.generated(0, [candidate("a", 0, 0.3, chosen=True)], [pair("a", 0)])
    builder.selected(min_scores={"score": 9.0})
    page = builder.page()
    assert "Pairs selected 0 0.0% of 1 pairs" in page.section("main")
    assert "score is below the recipe's minimum" in page.section("part-rejected")


def test_everything_selected(build: Callable[..., Builder]) -> None:
    builder = build()
    builder.curated(0, [caption("a")])
    builder.generated(0, [candidate("a", 0, 0.3, chosen=True)], [pair("a", 0)])
    builder.selected()
    page = builder.page()
    assert "part-rejected" not in page.ids()
    assert "part-border" not in page.ids()
    assert "cut of the selection" not in page.html


def test_some_shards_generated(build: Callable[..., Builder]) -> None:
    builder = build()
    builder.curated(0, [caption("a")])
    builder.curated(1, [caption("b")])
    builder.generated(0, [candidate("a", 0, 0.3, chosen=True)], [pair("a", 0)])
    page = builder.page()
    assert "The stage generate is done for 1 of 2 shards" in page.text
    assert "not up to date" not in page.text


def test_candidates_older_than_the_captions(build: Callable[..., Builder]) -> None:
    builder = build()
    builder.curated(0, [caption("a"), caption("b")])
    builder.generated(0, [candidate("a", 0, 0.3, chosen=True)], [pair("a", 0)])
    assert "2 captions are kept and 1 have candidates" in builder.page().text


def test_selection_older_than_the_candidates(whole: Builder) -> None:
    rows = [candidate("a", 0, 0.5, chosen=True), candidate("b", 0, 0.3, 0.6, chosen=True)]
    whole.generated(0, rows, [pair("a", 0), pair("b", 0)])
    page = whole.page()
    assert "1 of its rows are no longer pairs" in page.text


def test_a_loser_that_failed(build: Callable[..., Builder]) -> None:
    builder = build()
    builder.curated(0, [caption("a")])
    rows = [candidate("a", 0, 0.3, chosen=True), candidate("a", 1, None), candidate("a", 2, 0.1)]
    builder.generated(0, rows, [pair("a", 0)], [Preview("a", 2, image_bytes(format="webp"))])
    losers = builder.page().section("part-losers")
    assert losers.endswith("0.350 failed n/a")


@pytest.mark.parametrize(("pairs", "others"), [(8, []), (11, ["3 more"])])
def test_a_gallery_shows_eight_pairs_and_folds_the_others(
    build: Callable[..., Builder], pairs: int, others: list[str]
) -> None:
    builder = build("report.gallery=24", "generation.candidates=1")
    ids = [f"c{n:02}" for n in range(pairs)]
    builder.curated(0, [caption(id) for id in ids])
    rows = [candidate(id, 0, n / 100, chosen=True) for n, id in enumerate(ids)]
    builder.generated(0, rows, [pair(id, 0) for id in ids])
    builder.selected(top_n=pairs)
    page = builder.page()
    folded = [attrs for attrs in page.all("details") if attrs.get("class") == "others"]
    assert len(folded) == len(others)
    best = page.section("part-best")
    assert best.count("rank") == pairs
    assert all(text in best for text in others)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_small_galleries(build: Callable[..., Builder], size: int) -> None:
    builder = build(f"report.gallery={size}")
    ids = [f"c{n}" for n in range(6)]
    builder.curated(0, [caption(id) for id in ids])
    rows = [candidate(id, 0, n / 10, chosen=True) for n, id in enumerate(ids)]
    builder.generated(0, rows, [pair(id, 0) for id in ids])
    builder.selected(top_n=3)
    page = builder.page()
    assert ("gallery" in page.ids()) == (size > 0)
    assert page.section("part-best").count("rank") == size
    assert page.section("part-rejected").count("below the cut") == size
