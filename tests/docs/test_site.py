"""The documentation as a site: docs/build_site.py, docs/reference_pages.py."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from markdown_it import MarkdownIt

TAG = r"<(li|table|pre|h[1-6])\b"
DOCS = Path(__file__).parents[2] / "docs"


def test_the_pages_about_the_code_are_as_the_code_is(reference_pages: ModuleType) -> None:
    pages = reference_pages.pages()
    kept = {path.name: path.read_text("utf-8") for path in (DOCS / "reference").glob("*.md")}
    assert kept == pages, "run: python docs/reference_pages.py"


def test_the_site_reads_each_page_as_github_does(built: Path) -> None:
    pages = sorted((built / "build/pages").rglob("*.md"))
    assert len(pages) > 30
    for page in pages:
        place = page.relative_to(built / "build/pages").with_suffix("")
        html = (
            built / "site" / ("" if place.name == "index" else place) / "index.html"
        ).read_text()
        article = re.search(r'<article class="md-content__inner.*?</article>', html, re.DOTALL)
        assert article is not None, page
        tags = Counter(re.findall(TAG, article[0]))
        tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))
        expected = Counter(
            {"fence": "pre", "code_block": "pre"}.get(token.type, token.tag)
            for token in tokens
            if token.nesting == 1 or token.type in {"fence", "code_block"}
        )
        shown = "".join(token.content for token in tokens if token.type == "html_block")
        expected.update(re.findall(TAG, shown))  # by a notebook's cells
        assert tags == {tag: expected[tag] for tag in tags}, page


def test_the_site_asks_no_other_server_for_anything(built: Path) -> None:
    for page in (built / "site").rglob("*.html"):
        html = page.read_text("utf-8")
        assert not re.findall(r'<(?:script|img|iframe|source)[^>]*\bsrc="?(?:https?:)?//', html), (
            page
        )
        assert not re.findall(r'<link[^>]*stylesheet[^>]*href="?(?:https?:)?//', html), page


@pytest.mark.parametrize("link", ["index.md#nowhere", "nothing.md"])
def test_a_link_that_leads_nowhere_fails_the_build(
    link: str, build_site: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "build/pages").mkdir(parents=True)
    shutil.copy(build_site.CONFIG, tmp_path)
    (tmp_path / "build/pages/index.md").write_text(f"# Home\n\n[there]({link})\n")
    assert build_site.strictly(tmp_path) != 0
    assert "does not exist" in capfd.readouterr().err


def test_links_are_those_of_the_site_but_not_in_code(build_site: ModuleType) -> None:
    places = {"README.md": "index.md", "docs/a.md": "a.md", "docs/b/c.md": "b/c.md"}
    text = "[a](docs/a.md#x) `[a](docs/a.md)` [web](https://example.org)\n\n```\n[a](no.md)\n```\n"
    expected = text.replace("(docs/a.md#x)", "(a.md#x)")
    assert build_site.with_links(text, "README.md", places) == expected
    assert (
        build_site.with_links("[r](../../README.md)", "docs/b/c.md", places) == "[r](../index.md)"
    )
    with pytest.raises(SystemExit, match=r"docs/a\.md: links to \.\./src/x\.py"):
        build_site.with_links("[x](../src/x.py)", "docs/a.md", places)


def test_a_notebook_is_a_page_with_what_its_cells_showed(build_site: ModuleType) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {
            "cell_type": "code",
            "source": ["print(1)\n", "run"],
            "outputs": [
                {"output_type": "stream", "text": ["1\n"]},
                {"data": {"text/plain": ["Run"], "text/html": ["<b>\n\n*run*</b>"]}},
            ],
        },
    ]
    assert build_site.notebook_page({"cells": cells}) == (
        "# Title\ntext\n\n```python\nprint(1)\nrun\n```\n\n```text\n1\n```\n\n"
        '<div class="notebook-output"><b>  *run*</b></div>\n'
    )
