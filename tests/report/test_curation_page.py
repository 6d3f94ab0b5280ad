"""The report of a curation: funnel, bounds, captions on both sides of them, up to date."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from report_folder import TEXT_RULES, Builder, Page, caption

from synthvlm import Pipeline, Recipe
from synthvlm.report import CURATION_FILE, write_curation_report

HOSTILE = "<script>alert(1)</script> \u202egod \U0001f600 " + "a" * 5000
PASSING = dict.fromkeys(TEXT_RULES, 0.0) | {"alnum_ratio": 0.8, "special_char_ratio": 0.25}


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    bounds = ("curation.rules.alnum_ratio={min: 0.6}", "curation.rules.person_names={max: 0}")
    builder = Builder(tmp_path / "run", bounds)
    ratios = [n / 100 for n in range(30, 90)]
    rows = [
        caption(f"r{n}", f"ratio {n:.2f}", "alnum_ratio" if n < 0.6 else None,
                **{**PASSING, "alnum_ratio": n})
        for n in ratios
    ]  # fmt: skip
    rows += [
        caption("name", HOSTILE, "person_names", **{**PASSING, "person_names": 1.0}),
        caption("bad", "", "unreadable", problem="line is no JSON", row=61),
        caption("twin", "ratio 0.61", "near_duplicate", **PASSING, duplicate_of="r0.61"),
    ]
    builder.curated(0, rows[::2])
    builder.curated(1, rows[1::2])
    return builder


def page_of(builder: Builder) -> Page:
    write_curation_report(builder.run, builder.recipe, builder.run.markers("curate"))
    return Page(builder.run.read(CURATION_FILE).decode("utf-8"))


def test_each_step_has_its_captions_to_read(builder: Builder) -> None:
    page = page_of(builder)
    funnel = page.section("funnel")
    assert "Captions read 63" in funnel
    assert "Alphanumeric characters at least 0.6 32 \u221230 (47.6%)" in funnel
    assert funnel.endswith("Captions kept become prompts 30")
    # Twelve on each side of a bound, the nearest first; and twenty of all that it rejected.
    rule = page.section("step-alnum_ratio")
    rejected, rest = rule.split("Rejected, nearest to a bound")[1].split("Kept, nearest to a bound")
    kept, sample = rest.split("Rejected, chosen by a hash of their id")
    assert [f"0.{n}, rejected" in rejected for n in (59, 48, 47)] == [True, True, False]
    assert [f"0.{n}, kept" in kept for n in (61, 71, 72)] == [True, True, False]
    assert "20 of 30 captions that this step removed" in sample
    assert "synthvlm captions RUN --rejected --rule alnum_ratio" in rule
    assert "line is no JSON" in page.section("step-unreadable")
    assert page.section("step-near_duplicate").endswith("ratio 0.61 ratio 0.61")
    # Of a bound of 0, on which all lies that is kept, there is nothing to see on that side.
    assert "Kept, nearest to a bound none" in page.section("step-person_names")
    anchors = {(link["href"] or "").removeprefix("#") for link in page.all("a")}
    assert anchors <= page.ids()


def test_other_bounds_are_told(builder: Builder) -> None:
    # 0.54 would keep 0.54 to 0.59; 0.66 would reject 0.60 to 0.65.
    assert "Alphanumeric characters at least 0.6 30 0.54 6 0.66 6" in page_of(builder).section(
        "bounds"
    )


def test_captions_are_text_on_it(builder: Builder) -> None:
    page = page_of(builder)
    assert len(page.all("script")) == 1
    assert "<script>alert(1)</script> \\u202egod" in page.section("step-person_names")
    assert "default-src 'none'" in page.html


def test_it_is_written_anew_only_where_verdicts_or_bounds_changed(builder: Builder) -> None:
    first = page_of(builder)
    mark = first.html.replace("captions read", "captions READ").encode()
    builder.run.write(CURATION_FILE, mark)
    assert page_of(builder).html.encode() == mark
    builder.curated(1, [caption("other")])
    page = page_of(builder)
    assert "33 captions read" in " ".join(page.text.split())


KEPT = Path(__file__).parents[1] / "data"


def test_curate_ends_with_it_and_a_later_command_keeps_it_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from synthvlm.progress.display import PlainProgress

    monkeypatch.chdir(KEPT)
    out = Path(shutil.copytree(KEPT / "kept_run", tmp_path / "run"))
    recipe = Recipe.load(str(out / "recipe.yaml"))
    Pipeline(recipe, out).run("select")
    assert not (out / "report").exists(), "it belongs to curate"
    Pipeline(recipe, out, progress=PlainProgress()).run("curate")
    assert capsys.readouterr().out.rstrip().endswith(f"report: {out}/report/curation.html")
    before = (out / CURATION_FILE).read_text("utf-8")
    assert "<b>6</b> captions read, <b>3</b> kept" in before
    Pipeline(recipe, out).run("select")
    assert (out / CURATION_FILE).read_text("utf-8") == before
    looser = recipe.changed(overrides=["curation.rules.alnum_ratio.min=0.82"])
    Pipeline(looser, out).run("curate")
    assert "<b>2</b> kept" in (out / CURATION_FILE).read_text("utf-8")
