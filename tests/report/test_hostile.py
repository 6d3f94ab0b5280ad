"""Texts that try to become markup."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from report_folder import Builder, Page, candidate, caption, pair

from synthvlm.safe_text import printable

HOSTILE = [
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x=\'',
    "'><svg onload=alert(1)>",
    "{{7*7}} {% raw %} {{ config }}",
    "--></textarea></title><b>bold</b>",
    "&lt;i&gt; &amp; &#60;u&#62;",
    "\u202egnp.exe \u0000 \x1b[31m \ufeff",
    "دائرة حمراء 🔴 👩‍👩‍👧 \u0301",
]


def page_of(build: Callable[..., Builder], text: str, id: str = "plain") -> Page:
    """A page that shows the text wherever a page can show one."""
    builder = build("sources.0.name=web")
    source = {"source": text or "s"}
    builder.curated(
        0,
        [
            caption(id, text, **source),
            caption("r" + id, text, "alnum_ratio", **source),
            caption("u" + id, "", "unreadable", problem=text or "?", **source),
            caption("d" + id, text, "duplicate", duplicate_of=id, **source),
        ],
    )
    rows = [candidate(id, 0, 0.3, chosen=True), candidate(id, 1, None, problem=text)]
    builder.generated(0, rows, [pair(id, 0)])
    builder.selected()
    return builder.page()


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_stay_texts(build: Callable[..., Builder], text: str) -> None:
    page = page_of(build, text, id=text)
    assert len(page.all("script")) == 1
    assert len(page.all("style")) == 1
    assert not page.all("b") or all(not attrs for attrs in page.all("b"))
    assert not {"i", "u", "textarea"} & {tag for tag, a in page.elements if not a and tag != "b"}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
    shown = printable(text)
    assert page.text.count(shown) >= 5
    assert "\u202e" not in page.html


def test_no_template_is_evaluated(build: Callable[..., Builder]) -> None:
    page = page_of(build, "{{7*7}}")
    assert "{{7*7}}" in page.section("part-best")
    assert "49" not in page.section("part-best")


def test_run_names_are_escaped(tmp_path: Path) -> None:
    page = Builder(tmp_path / "<u>run").page()
    assert "SynthVLM run <u>run" in page.text
    assert not page.all("u")


def test_recipe_texts_are_escaped(build: Callable[..., Builder]) -> None:
    builder = build("generation.negative_prompt='</pre><script>alert(1)</script>'")
    page = builder.page()
    assert len(page.all("script")) == 1
    assert "</pre><script>alert(1)</script>" in page.section("recipe")


def test_long_captions_are_cut(build: Callable[..., Builder]) -> None:
    page = page_of(build, "word " * 20_000)
    assert "… (96,000 more characters)" in page.section("part-best")
    assert len(page.html) < 200_000


def test_empty_captions(build: Callable[..., Builder]) -> None:
    assert "(no text)" in page_of(build, "").section("funnel")
