"""Markdown as GitHub and the hub show it."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt

#: What GitHub and the hub link in plain text, whatever backslashes stood in it.
LINKED = re.compile(
    r"(?i)https?://|ftp://|www\.|[\w.+-]+@[\w-]+\.[\w.]+|(?<!\w)@\w|#\d|\b\w+\.com\b"
)


def inert_kinds(markdown: str) -> set[str]:
    """The kinds of elements of a Markdown, in whose plain text nothing becomes a link."""
    kinds: set[str] = set()
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        kinds.add(token.type)
        run = ""
        for child in token.children or []:
            kinds.add(child.type)
            run += child.content if child.type.startswith("text") else "\0"
        assert not LINKED.search(run), run
    return kinds
