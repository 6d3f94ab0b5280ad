"""The reports as a browser shows them from their files."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_folder import Builder, candidate, caption, pair

from browser import OpenPage, faults
from synthvlm.report.curation_page import write_curation_report

TEXTS = {
    "html": "<script>document.title = 'broken'</script><img src=x onerror=alert(1)>",
    "rtl": "كلب أحمر يجري في الحديقة",
    "emoji": "👩‍👩‍👧‍👦🐕🦺 on a 🏖️",
    "long": "word " * 1000,
    "unbroken": "x" * 5000,
}


@pytest.fixture
def hostile(build: type[Builder]) -> Builder:
    """Captions that are not plain text, kept and rejected."""
    builder = build("generation.candidates=1", "selection.top_fraction=null")
    rejected = [caption(f"{id}-out", text, "alnum_ratio") for id, text in TEXTS.items()]
    builder.curated(0, [*(caption(id, text) for id, text in TEXTS.items()), *rejected])
    chosen = [candidate(id, 0, 0.3, chosen=True) for id in TEXTS]
    builder.generated(0, chosen, [pair(id, 0) for id in TEXTS])
    return builder


def pages(builder: Builder) -> list[Path]:
    builder.page()
    write_curation_report(builder.run, builder.recipe, builder.run.markers("curate"))
    folder = Path(builder.run.url) / "report"
    return [folder / "index.html", folder / "curation.html"]


@pytest.mark.parametrize(("dark", "phone"), [(False, False), (True, True)])
def test_a_report_opens_from_its_file(
    whole: Builder, open_page: OpenPage, dark: bool, phone: bool
) -> None:
    for file in pages(whole):
        page = open_page(file.as_uri(), dark=dark, phone=phone)
        assert page.locator("h1").is_visible()
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_captions_are_text(hostile: Builder, open_page: OpenPage) -> None:
    for file in pages(hostile):
        page = open_page(file.as_uri())
        assert page.title() != "broken"
        assert page.locator("img[src=x]").count() == 0
        shown = page.locator("body").text_content()
        assert shown is not None
        assert TEXTS["html"][:40] in shown
        assert TEXTS["rtl"] in shown
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
