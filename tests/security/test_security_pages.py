"""Tables, cards and pages of evaluation, training and comparison: texts in them stay texts."""

from __future__ import annotations

import ast
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

import synthvlm
from rendered_markdown import inert_kinds
from synthvlm.estimates import Estimate
from synthvlm.evaluation.questions import BadQuestion
from synthvlm.evaluation.results import Results, Row
from synthvlm.training.recipe import TrainingRecipe
from synthvlm.training.report import TrainingSummary, model_card, render
from synthvlm.training.sources import DataFacts

TEXTS = [
    "<img src=x onerror=alert(1)>", "![i](http://h.org/i)", "see http://h.org/x", "a | b", "`c`",
    "\x1b[31mred", "\u202eevil", "@someone", "<script>alert(1)</script>", "a\n\n# b",
]  # fmt: skip
ACTIVE = ("\x1b", "\u202e", "<img src", "<script")


@pytest.mark.parametrize("text", TEXTS)
def test_a_table_of_results(text: str) -> None:
    row = Row(text, text, Estimate(1.0, None, None), 3, {text: 1.0}, {text: 2.0}, text)
    model = {"name": text, "dtype": "float32", "device": "cpu"}
    bad = (BadQuestion(text, text),)
    markdown = Results(model, {text: text}, None, (row,), {}, bad).markdown()
    kinds = inert_kinds(markdown)
    assert not kinds & {"link_open", "image", "html_inline", "html_block", "heading_open"}
    assert not [active for active in ACTIVE if active in markdown]
    # A header, the line below it, and one row of as many cells.
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert [line.replace("\\|", "").count("|") for line in table] == [8, 8, 8]


class Tags(HTMLParser):
    """The elements of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]


@pytest.mark.parametrize("text", TEXTS)
def test_the_card_and_the_page_of_a_training(text: str) -> None:
    recipe = TrainingRecipe.load("tiny-pretrain", data=[text])
    facts = DataFacts(1, 1, 1, 9, Counter({text: 1}), {text: [f"{text}, record 1 (id {text})"]})
    summary = TrainingSummary("m", 1, 1, 0, 0.5, 1.0, 0)
    card = model_card(recipe, facts, summary)
    body = card.split("---\n", 2)[2].replace("{", "")
    assert not inert_kinds(body) & {"link_open", "image", "html_inline", "html_block"}
    page = render(recipe, facts, summary, [])
    assert not Tags(page).tags & {"img", "script"}
    for shown in (card.split("```yaml")[0], page):
        assert not [active for active in ACTIVE if active in shown]


def test_every_page_passes_its_values_through_one_function() -> None:
    made = [
        path.name
        for path in Path(synthvlm.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("jinja2.Environment")
    ]
    assert made == ["pages.py"]
