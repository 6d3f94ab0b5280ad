"""Write the tables and example cards of docs/rights.md anew: python docs/rights_tables.py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from synthvlm.exporters.card_terms import UseFacts, licence_blocks, terms_section
from synthvlm.recipe import Recipe
from synthvlm.rights import terms_in_use, terms_table
from synthvlm.safe_text import for_markdown, markdown_table
from synthvlm.stages.terms_facts import licence_facts, terms_facts

PAGE = Path(__file__).with_name("rights.md")
HEADER = (
    "name",
    "licence",
    "use of outputs",
    "sale of outputs",
    "training of other models",
    "read",
)
SDXL = ["sources.0.name=coco", "sources.0.terms=coco-captions", "intended_use=commercial"]
FLUX = [
    "sources.0.name=flickr",
    "intended_use=research",
    "acknowledge_terms=[black-forest-labs/FLUX.1-dev]",
]


def page(text: str) -> str:
    """The page with what lies between its marks written anew."""
    blocks = {
        "models": table("model"),
        "captions": table("captions"),
        "licences": licences(),
        "sdxl": example("sdxl", SDXL),
        "flux-dev": example("flux-dev", FLUX),
    }
    for name, block in blocks.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        text, found = pattern.subn(lambda _: f"{begin}\n\n{block}\n\n{end}", text)  # noqa: B023
        assert found == 1, f"the page has no place for {name}"
    return text


def table(kind: Literal["model", "captions"]) -> str:
    """The entries of a kind, the unknown ones first, with a link to where each is named."""
    entries = {name: e for name, e in terms_table().entries.items() if e.kind == kind}
    rows = sorted(entries.items(), key=lambda item: item[1].licence is not None)
    lines = markdown_table(HEADER, [_row(name) for name, _ in rows])
    notes = [
        f"- {for_markdown(name)}: <{entry.stated}>."
        + (f" {for_markdown(entry.note)}" if entry.note else "")
        for name, entry in rows
    ]
    return "\n\n".join([lines, "Where that is named, or was looked for:", "\n".join(notes)])


def _row(name: str) -> Sequence[str]:
    entry, licence = terms_table().entries[name], terms_table().licence_of(name)
    if licence is None:
        return (name, "unknown", "unknown", "unknown", "unknown", entry.read.isoformat())
    answers = licence_facts(licence).answers
    return (name, licence.title, *answers.values(), entry.read.isoformat())


def licences() -> str:
    """Every licence with the clauses that the answers name."""
    return "\n\n".join(_licences())


def _licences() -> Iterator[str]:
    for licence in terms_table().licences.values():
        yield from licence_blocks(licence_facts(licence))


def example(name: str, changes: Sequence[str]) -> str:
    """The section on terms of the card of a built-in recipe."""
    recipe = Recipe.load(name, captions=["captions.jsonl"], overrides=changes)
    facts = [terms_facts(one) for one in terms_in_use(recipe)]
    section = terms_section(facts, UseFacts(recipe.intended_use, recipe.acknowledge_terms))
    return "\n\n".join(["````markdown", *section, "````"])


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
