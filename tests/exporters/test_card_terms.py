"""The card's section on terms."""

from __future__ import annotations

from synthvlm.exporters.card_terms import LicenceFacts, TermsFacts, UseFacts, terms_section

LICENCE = LicenceFacts(
    title="A | Licence",
    link="https://l.example/text",
    read="2026-01-02",
    copy_read="copy at commit 1a2b",
    answers={"use": "allowed by 1", "sell": "forbidden by 2", "train": "limited by 2"},
    clauses={"1": "You may.", "2": "You may not."},
    conditions=["2"],
    note=None,
)
KNOWN = TermsFacts(
    "image generation", "org/a", "v2", LICENCE, stated="https://s.example", read="2026-01-03",
    note="Mind this.",
)  # fmt: skip
FOLDER = TermsFacts("CLIPScore", "b", stated_licence="mit", unknown="it is a folder")
LOOKED_FOR = TermsFacts(
    "captions", "web", unknown="No text.", stated="https://w.example", read="2026-01-04"
)


def text(*terms: TermsFacts, use: UseFacts | None = None) -> str:
    return "\n\n".join(terms_section(terms, use or UseFacts()))


def test_unknown_terms_come_first_with_their_reason() -> None:
    section = text(KNOWN, FOLDER, LOOKED_FOR)
    unknown, known = section.split("**Known terms.**")
    assert "| CLIPScore | b | default | mit | it is a folder |" in unknown
    assert "| captions | web | default | none | No text. (looked for on 2026-01-04) |" in unknown
    assert "org/a" not in unknown
    assert "| image generation | org/a | v2 | A \\| Licence | allowed by 1 | " in known


def test_clauses_are_quoted_with_number_link_and_date() -> None:
    section = text(KNOWN)
    assert "Unknown" not in section
    assert "<https://l.example/text>, read on 2026-01-02 (copy at commit 1a2b)." in section
    assert '- 2 (condition): "You may not."' in section
    assert "- org/a: <https://s.example>, read on 2026-01-03. Mind this." in section


def test_it_says_that_it_is_no_advice_and_what_was_intended() -> None:
    assert "not legal advice" in text()
    assert "unspecified. So it was not checked" in text()
    section = text(use=UseFacts("research", ["org/a"]))
    assert "Intended use, by the recipe: research. Terms that the recipe acknowledges" in section
    assert section.rstrip().endswith("org/a.")
