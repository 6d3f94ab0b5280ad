"""The table of terms: complete for all that the package names by itself, dated and cited."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from synthvlm.captions.rules import RULES
from synthvlm.components.settings import TINY, ModelName
from synthvlm.recipe import RECIPES, Recipe
from synthvlm.rights import TermsTable, terms_in_use, terms_table
from synthvlm.scorers import SCORERS
from synthvlm.training.recipe import TRAINING_RECIPES

DOCS = Path(__file__).parents[2] / "docs"


def _built_in() -> Iterator[tuple[str, str]]:
    """Each model that a built-in recipe or a default names, and who names it."""
    for name in RECIPES.lines():
        captions = [] if name == TINY else ["captions.txt"]
        for one in terms_in_use(Recipe.load(name, captions=captions)):
            if one.part != "captions":
                yield name, one.name
    for name in TRAINING_RECIPES.lines():
        values = yaml.safe_load(TRAINING_RECIPES.text(name))
        models = values["model"] if isinstance(values.get("model"), dict) else {}
        for key in models.keys() & {"vision_tower", "language_model"}:
            yield name, models[key]
    for table in (SCORERS, RULES):
        for component in table.names():
            for field in table[component].Settings.model_fields.values():
                is_model = any(isinstance(mark, ModelName) for mark in field.metadata)
                if is_model and isinstance(field.default, str):
                    yield component, field.default


@pytest.mark.parametrize(("where", "model"), sorted(set(_built_in())))
def test_every_model_that_the_package_names_has_terms_dated_and_cited(
    where: str, model: str
) -> None:
    table = terms_table()
    name = table.find(model, "model")
    assert name is not None, f"{where} names {model}, which rights/terms.yaml has no entry for"
    entry, licence = table.entries[name], table.licence_of(name)
    assert entry.stated.startswith("https://")
    assert date(2026, 1, 1) < entry.read
    if licence is None:
        assert entry.note, "an unknown one says why"
        return
    assert licence.link.startswith("https://")
    assert licence.copy_read
    for uses in (licence.research, licence.commercial):
        for answer in uses.answers.values():
            assert answer.clause in licence.clauses, f"{licence.title}: {answer} cites no clause"


def test_the_caption_sources_that_people_use_are_there() -> None:
    common = """coco-captions karpathy-splits flickr8k flickr30k cc3m cc12m laion-2b-en datacomp-1b
    llava-558k llava-665k sharegpt4v parti-prompts diffusiondb docci nocaps textcaps
    visual-genome"""
    assert all(terms_table().find(name, "captions") for name in common.split())
    assert terms_table().find("google/docci", "captions") == "docci"
    assert terms_table().find("docci", "model") is None


def test_what_was_read_of_the_licences_that_matter_most() -> None:
    table = terms_table()
    flux = table.licences["flux-1-dev-1.1.1"]
    assert str(flux.commercial.use) == "forbidden by 2.b"
    assert str(flux.research.train) == "limited by 2.d"
    assert "competitive with the FLUX.1 [dev] Model" in flux.clauses["2.d"]
    stability = table.licences["stability-community-2024"]
    assert str(stability.research.train) == "limited by IV.b"
    assert "foundational generative AI model" in stability.clauses["IV.b"]
    assert str(table.licences["sharegpt4v-notices"].commercial.use).startswith("forbidden")
    assert table.licence_of("Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers") is None


LICENCE: dict[str, Any] = {
    "title": "L",
    "link": "https://l.example",
    "read": date(2026, 1, 2),
    "copy_read": "a copy",
    "clauses": {"1": "Do."},
    "research": {"use": "allowed by 1", "train": "allowed"},
    "commercial": {"use": "allowed", "sell": "allowed", "train": "allowed"},
}
ENTRY = {"kind": "model", "licence": "l", "stated": "https://m.example", "read": date(2026, 1, 2)}


@pytest.mark.parametrize(
    ("licence", "entry", "problem"),
    [
        ({"research": {"use": "forbidden", "train": "allowed by 1"}}, {}, "no clause is named"),
        ({"conditions": ["9"]}, {}, "clause 9 is named but not quoted"),
        ({"research": {"use": "allowed", "train": "allowed"}}, {}, "clause 1 .* unused"),
        ({"research": {"use": "perhaps", "train": "allowed by 1"}}, {}, "allowed"),
        ({"commercial": {"use": "allowed", "train": "allowed"}}, {}, "sell is not answered"),
        ({"link": "http://l.example"}, {}, "pattern"),
        ({"read": None}, {}, "date"),
        ({}, {"licence": "k"}, "licence k is named but not there"),
        ({}, {"licence": None}, "why it is unknown"),
        ({}, {"also": ["m"]}, "m names two entries"),
    ],
)
def test_an_entry_that_is_not_cited_is_refused(
    licence: dict[str, Any], entry: dict[str, Any], problem: str
) -> None:
    values = {"licences": {"l": LICENCE}, "entries": {"m": ENTRY}}
    assert TermsTable.model_validate(values).find("m", "model") == "m"
    values = {"licences": {"l": LICENCE | licence}, "entries": {"m": ENTRY | entry}}
    with pytest.raises(ValidationError, match=problem):
        TermsTable.model_validate(values)


def test_the_page_shows_the_table_and_the_cards_as_the_code_writes_them() -> None:
    spec = importlib.util.spec_from_file_location("rights_tables", DOCS / "rights_tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    text = (DOCS / "rights.md").read_text(encoding="utf-8")
    assert tables.page(text) == text, "run: python docs/rights_tables.py"
    for needed in (
        "not legal advice",
        "FLUX.1 \\[dev\\] Non-Commercial License",
        "**Unknown terms",
    ):
        assert needed in text
