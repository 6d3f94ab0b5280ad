"""The figures of the page against figures computed by hand."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable

import pytest
from PIL import Image
from report_folder import Builder, candidate, caption, image_bytes, pair


def test_means_of_all_pairs_and_of_the_selected(whole: Builder) -> None:
    table = whole.page().section("scores")
    assert "CLIPScore all 0.300 0.200 0.220 0.300 0.380 0.400" in table
    assert "CLIPScore selected 0.350" in table
    assert "SSIMScore 64/28 all 0.600" in table
    assert "SSIMScore 64/28 selected 0.700" in table
    # 0.40 + 0.40, 0.30 + 0.30, 0.20 + 0.20
    assert "Weighted score all 0.600" in table
    assert "Weighted score selected 0.700" in table


def test_tiles_show_the_selection_beside_all(whole: Builder) -> None:
    text = whole.page().section("main")
    assert "CLIPScore 0.350 mean of the selected pairs 0.300 over all pairs, +0.050" in text
    assert "Pairs selected 2 66.7% of 3 pairs from 7 captions" in text


def test_funnel_counts_every_step(whole: Builder) -> None:
    funnel = whole.page().section("funnel").replace("\u2212", "-")
    assert "Captions read from 1 source 7" in funnel
    assert re.search(r"Unreadable rows\D+ 6 -1 \(14.3%\)", funnel)
    assert re.search(r"Alphanumeric characters at least 0.6 5 -1 \(14.3%\)", funnel)
    assert re.search(r"Special characters from 0.16534802 to 0.42023757 5 ", funnel)
    assert re.search(r"Duplicates\D+ 4 -1 \(14.3%\)", funnel)
    assert re.search(r"Captions kept\D+ 4 ", funnel)
    assert re.search(r"Candidates generated 2 for each caption 6 -2 \(25.0%\)", funnel)
    assert "6 ok, 2 failed. 1 of 4 captions are longer" in funnel
    assert re.search(r"Pairs\D+ 3 -1 \(14.3%\)", funnel)
    assert re.search(r"Selected the best 2 by score 2 -1 \(14.3%\)$", funnel)


def test_rejected_captions_are_shown_with_what_spoke_against_them(whole: Builder) -> None:
    funnel = whole.page().section("funnel")
    assert "!!! 0.1250 test, 1" in funnel
    assert "a red ball same text as a test, 3" in funnel
    assert "(no text) line is no JSON test, 4" in funnel
    assert "the image is black 2" in funnel


def test_chosen_against_a_random_candidate(whole: Builder) -> None:
    page = whole.page()
    # CLIPScores of the ok ones: 0.3 0.4 0.3 0.1 0.1 0.2 -> 1.4 / 6
    assert "CLIPScore 0.233 0.300 +0.067" in page.section("best-of")
    # First candidates 0.6 0.6 0.3, best of two 0.8 0.6 0.4; c has no candidate and is left out.
    labels = [svg["aria-label"] for svg in page.all("svg")]
    assert "Mean weighted score of the best of the first k candidates: 1: 0.500, 2: 0.600" in labels


def test_histograms_name_their_means_and_the_cut(whole: Builder) -> None:
    page = whole.page()
    labels = [svg["aria-label"] for svg in page.all("svg")]
    assert (
        "Distribution of Weighted score: mean of all pairs 0.600, mean of selected 0.700" in labels
    )
    assert "cut of the selection: 0.6000" in page.html


def test_gallery_parts(whole: Builder) -> None:
    page = whole.page()
    best = page.section("part-best")
    assert best.index("a red ball") < best.index("a blue box")
    assert "a grey dog" not in best
    assert "rank 1 candidate 1 seed 7" in best
    border = page.section("part-border")
    assert "rank 2" in border
    assert "below the cut place 3 of 3" in border
    assert "a grey dog" in page.section("part-rejected")


def test_losers_stand_beside_their_winner(whole: Builder) -> None:
    page = whole.page()
    losers = page.section("part-losers")
    assert "a red ball" in losers
    assert "0.600" in losers
    alts = [image["alt"] for image in page.all("img")]
    assert "Candidate 0, score 0.600" in alts


def test_every_image_is_a_data_uri_and_has_an_alternative_text(whole: Builder) -> None:
    page = whole.page()
    for image in page.all("img"):
        assert str(image["src"]).startswith("data:")
        assert "alt" in image


def test_nothing_is_loaded_from_outside(whole: Builder) -> None:
    page = whole.page()
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("data:", "#"))
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.elements}
    style = re.search(r"<style>(.*?)</style>", page.html, re.S)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_only_its_own_script_may_run(whole: Builder) -> None:
    page = whole.page()
    [policy] = [m["content"] for m in page.all("meta") if m.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    [script] = re.findall(r"<script>(.*?)</script>", page.html, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy


def test_the_same_run_gives_the_same_page(whole: Builder) -> None:
    assert whole.page().html == whole.page().html


def test_recipe_is_there_in_full(whole: Builder) -> None:
    page = whole.page()
    recipe = "".join(page._by_id["recipe-text"])
    assert recipe == whole.recipe.to_yaml()


def test_at_most_five_samples_for_a_rule(build: Callable[..., Builder]) -> None:
    builder = build()
    builder.curated(0, [caption(f"r{n}", f"text {n}", "word_rep_ratio", row=n) for n in range(9)])
    funnel = builder.page().section("funnel")
    assert "5 of 9 captions that this step removed" in funnel
    assert len(re.findall(r"text \d 0.2500", funnel)) == 5


def test_scores_below_a_minimum_say_so(build: Callable[..., Builder]) -> None:
    builder = build("selection.min_scores.clip_score=0.25")
    builder.curated(0, [caption("a"), caption("b")])
    rows = [candidate("a", 0, 0.3, chosen=True), candidate("b", 0, 0.2, 0.9, chosen=True)]
    builder.generated(0, rows, [pair("a", 0), pair("b", 0)])
    builder.selected(min_scores={"clip_score": 0.25})
    page = builder.page()
    assert "clip_score is below the recipe's minimum" in page.section("part-rejected")
    assert "cut of the selection: 0.2500" in page.html


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_large_images_become_thumbnails(build: Callable[..., Builder], format: str) -> None:
    builder = build()
    builder.curated(0, [caption("a")])
    image = image_bytes("red", 1024, format)
    builder.generated(0, [candidate("a", 0, 0.3, chosen=True)], [pair("a", 0, image)])
    page = builder.page()
    [source] = {str(i["src"]) for i in page.all("img") if i["src"] != "data:,"}
    assert source.startswith("data:image/webp;base64,")
    with Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) as shown:
        assert shown.size == (384, 384)
    assert "1024 \u00d7 1024 pixels" in page.html


def test_small_images_are_embedded_as_they_are(whole: Builder) -> None:
    source = "data:image/png;base64," + base64.b64encode(image_bytes()).decode()
    image = next(image for image in whole.page().all("img") if image["src"] == source)
    assert image["class"] == "pixelated"


def test_unreadable_image_leaves_a_place(build: Callable[..., Builder]) -> None:
    builder = build()
    builder.curated(0, [caption("a")])
    builder.generated(0, [candidate("a", 0, 0.3, chosen=True)], [pair("a", 0, b"no image")])
    assert "image not readable" in builder.page().section("part-best")


def test_time_says_what_was_reused(whole: Builder) -> None:
    run = whole.run
    run.event("stage", stage="measure", seconds=9.0, rows=99)
    run.event("stage", stage="measure", seconds=2.0, rows=7)
    shard = {"stage": "generate", "failed": 1}
    run.event("shard", shard=0, seconds=3.0, generated=8, regenerated=0, carried=0, **shard)
    run.event("shard", shard=1, seconds=2.0, generated=1, regenerated=1, carried=5, **shard)
    run.flush_events()
    times = whole.page().section("time")
    assert "measure 2.00 s 7 captions 3.5 last of 2 passes" in times
    assert "generate 5.00 s 10 images 2 2 shard attempts; 9 candidates generated" in times
    assert "1 winners regenerated from their seeds" in times
    assert "5 reused from earlier attempts; 2 failed" in times
    assert "curate n/a 0 n/a done; the log has no times for it" in times


PUBLISHED_SETTINGS = (
    "scoring.clip.model=openai/clip-vit-base-patch32",
    "scoring.ssim.side=768",
    "scoring.ssim.model_input_side=336",
)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("scoring.ssim.weight=2", None),
        ("scoring.clip.prefix=x", "CLIPScores are with the prefix 'x', the published ones with"),
        ("scoring.clip.model=tiny", "CLIPScores are by tiny, the published ones by CLIP ViT-B/32"),
        ("scoring.clip.model=/models/mine", "CLIPScores are by mine, the published ones by"),
        ("scoring.ssim.side=400", "SSIMScores are at 400 pixels through 336"),
    ],
)
def test_settings_unlike_those_of_the_published_figures_are_named(
    build: Callable[..., Builder], change: str, difference: str | None
) -> None:
    builder = build(*PUBLISHED_SETTINGS, change)
    builder.curated(0, [caption("a")])
    builder.generated(0, [candidate("a", 0, 0.3, 0.6, chosen=True)], [pair("a", 0)])
    text = " ".join(builder.page().text.split())
    assert "Beside the published figures" in text
    assert text.count("not comparable") == (difference is not None)
    assert difference is None or difference in text
