"""What holds for every component of every table."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from every_setting import nested_settings

from fake_models import FakeClip, FakeGenerator, FakeSsim, run_with
from fakes.endpoint import FakeEndpoint
from synthvlm import Pipeline, Recipe
from synthvlm.captions.rules import METHOD_RULES, RULES
from synthvlm.captions.rules.base import ModelRule, RuleSettings, TextRule
from synthvlm.components.settings import Settings
from synthvlm.components.table import Table
from synthvlm.data import (
    candidate_schema,
    caption_schema,
    measure_schema,
    score_column,
    selection_schema,
)
from synthvlm.exporters import EXPORTERS
from synthvlm.generators import GENERATORS
from synthvlm.scorers import SCORERS, ScorerSettings, scorer_label
from synthvlm.selectors import SELECTORS
from synthvlm.stages.curation.curate import reasons_on
from synthvlm.stages.curation.rules import model_rules_on, text_rules_on
from synthvlm.stages.generation.models import Models

ROOT = Path(__file__).parents[2]


def _components() -> Iterator[Any]:
    for table in (RULES, SCORERS, GENERATORS, SELECTORS, EXPORTERS):
        for name in table.names():
            yield pytest.param(table, name, id=f"{table.kind} {name}")


TEXT_RULES = [name for name in RULES.names() if issubclass(RULES[name], TextRule)]
MODEL_RULES = [name for name in RULES.names() if name not in TEXT_RULES]
#: What a rule needs beside bounds.
NEEDED: dict[str, dict[str, Any]] = {name: {"model": "org/model"} for name in MODEL_RULES}


@pytest.mark.parametrize(("table", "name"), list(_components()))
def test_the_name_in_the_table_is_that_of_the_class(table: Table[Any], name: str) -> None:
    component = table[name]
    assert component.name == name
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    assert component.__doc__


@pytest.mark.parametrize(("table", "name"), list(_components()))
def test_the_class_is_of_the_kind_and_so_are_its_settings(table: Table[Any], name: str) -> None:
    component = table[name]
    assert issubclass(component, table.base)
    assert issubclass(component.Settings, table.base.Settings)
    assert component.Settings.__doc__
    assert component.default is None or isinstance(component.default, component.Settings)


def test_rules_are_text_rules_or_model_rules() -> None:
    assert {
        rule for rule in RULES.names() if not issubclass(RULES[rule], TextRule | ModelRule)
    } == set()


@pytest.mark.parametrize("table", [RULES, SCORERS], ids=lambda table: table.kind)
def test_labels_are_words_for_people_and_each_its_own(table: Table[Any]) -> None:
    labels = [table.label(name) for name in table.names()]
    assert len({label.lower() for label in labels}) == len(labels)
    assert all(table[name].label for name in table.names())


@pytest.mark.parametrize("name", SCORERS.names())
def test_a_scorer_says_what_its_number_is(name: str) -> None:
    scorer = SCORERS[name]
    assert scorer.about
    assert not scorer.about.endswith(".")


@pytest.mark.parametrize("name", EXPORTERS.names())
def test_an_exporter_says_how_its_format_is_read(name: str) -> None:
    assert EXPORTERS[name].usage


def _all_settings() -> set[type[Settings]]:
    models = nested_settings(Recipe)
    for table in (RULES, SCORERS, GENERATORS, SELECTORS, EXPORTERS):
        for name in table.names():
            models |= nested_settings(table[name].Settings)
    return models


@pytest.mark.parametrize("model", sorted(_all_settings(), key=lambda model: model.__name__))
def test_every_setting_is_documented(model: type[Settings]) -> None:
    """By a description, or where it is a section, by the docstring of that."""
    assert model.__doc__
    undocumented = [
        name
        for name, field in model.model_fields.items()
        if not field.description and not (nested_settings_of(field.annotation) - {model})
    ]
    assert undocumented == []


def nested_settings_of(annotation: Any) -> set[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return {annotation}
    found: set[type[Settings]] = set()
    for argument in getattr(annotation, "__args__", ()):
        found |= nested_settings_of(argument)
    return found


def _recipe(captions: str | Path = "captions.txt", **sections: Any) -> Recipe:
    return Recipe.from_values(
        {"sources": [{"path": str(captions), "image_field": "image"}], **sections}
    )


def _alone(rule: str, **settings: Any) -> dict[str, Any]:
    """The section of curation with one rule on."""
    rules: dict[str, Any] = dict.fromkeys(METHOD_RULES)
    return {"rules": {**rules, rule: settings}, "deduplicate": False}


@pytest.mark.parametrize("name", RULES.names())
def test_the_recipe_takes_every_rule(name: str, tmp_path: Path) -> None:
    more = NEEDED.get(name, {})
    if name == "benchmark_overlap":
        more = {"files": ["benchmark.txt"], "max": None}
    recipe = _recipe(curation=_alone(name, min=0.25, **more))
    settings = recipe.curation.rules[name]
    assert type(settings) is RULES[name].Settings
    assert isinstance(settings, RuleSettings)
    assert settings.bounds[0] == 0.25
    assert Recipe.from_values(recipe.model_dump(mode="json")) == recipe
    assert text_rules_on(recipe) + model_rules_on(recipe) == [name]
    assert reasons_on(recipe) == [name]


@pytest.mark.parametrize("name", SCORERS.names())
def test_the_recipe_takes_every_scorer(name: str) -> None:
    off: dict[str, Any] = dict.fromkeys(SCORERS.defaults())
    recipe = _recipe(scoring={**off, name: {"weight": 2.0}})
    assert recipe.scorers.keys() == {name}
    assert type(recipe.scorers[name]) is SCORERS[name].Settings
    assert isinstance(recipe.scorers[name], ScorerSettings)
    assert recipe.score_columns == [score_column(name), "score"]


@pytest.mark.parametrize("name", GENERATORS.names())
def test_the_recipe_takes_every_generator(name: str) -> None:
    endpoint = {"url": "http://localhost:1/v1"} if name == "endpoint" else None
    recipe = _recipe(generation={"generator": name, "endpoint": endpoint})
    assert recipe.generation.generator_name == name


@pytest.mark.parametrize("name", SELECTORS.names())
def test_the_recipe_takes_every_selector(name: str) -> None:
    assert type(_recipe(selection={"method": name}).selection.selector) is SELECTORS[name].Settings


@pytest.mark.parametrize("name", EXPORTERS.names())
def test_the_recipe_takes_every_exporter(name: str) -> None:
    (settings,) = _recipe(export={"formats": [name]}).export.exporters().values()
    assert type(settings) is EXPORTERS[name].Settings


def test_what_is_on_by_default_is_what_the_method_has() -> None:
    assert tuple(RULES.defaults()) == METHOD_RULES
    assert tuple(SCORERS.defaults()) == ("clip", "ssim")


def test_every_scorer_has_its_column_in_every_table_of_scores() -> None:
    columns = [score_column(name) for name in SCORERS.names()]
    assert [f"{name}_score" for name in SCORERS.names()] == columns
    for schema in (candidate_schema, selection_schema):
        assert [name for name in schema(SCORERS.names()).names if name in columns] == columns
        fixed = {*schema([]).names}
        assert fixed.isdisjoint(columns)


def test_every_rule_has_its_column_in_every_table_of_captions() -> None:
    for schema in (measure_schema, caption_schema):
        assert [n for n in schema(RULES.names()).names if n in RULES.names()] == RULES.names()
        assert {*schema([]).names}.isdisjoint(RULES.names())


#: Scorers whose models are named, and not looked at.
OF_NO_MODEL = {"vqa": {"model": "org/model"}}
CAPTIONS = ["A red kite flies over the green hill, high above the sea.", "Two dogs play in snow."]


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    path = tmp_path / "captions.txt"
    path.write_text("\n".join(CAPTIONS) + "\n")
    return path


def _needed_by_text_rule(name: str, captions: Path) -> dict[str, Any]:
    return {"files": [str(captions)]} if name == "benchmark_overlap" else {}


@pytest.mark.parametrize("name", TEXT_RULES)
def test_a_text_rule_that_is_on_is_applied(name: str, captions: Path, tmp_path: Path) -> None:
    """With bounds that nothing can meet, it rejects every caption, and says so."""
    more = _needed_by_text_rule(name, captions)
    section = _alone(name, min=1e9, **({"max": 2e9} | more))
    Pipeline(_recipe(captions, curation=section), tmp_path / "run").run("curate")
    (verdicts,) = (tmp_path / "run" / "captions").iterdir()
    rows = pq.read_table(verdicts).to_pylist()
    assert [(row["kept"], row["rejected_by"]) for row in rows] == [(False, name)] * 2
    (measures,) = (tmp_path / "run" / "measures").iterdir()
    measured = pq.read_table(measures)[name].to_pylist()
    assert [row[name] for row in rows] == measured
    assert None not in measured


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every text rule and every scorer on, with models that cost nothing."""
    folder = tmp_path_factory.mktemp("whole")
    captions = folder / "captions.txt"
    captions.write_text("\n".join(CAPTIONS) + "\n")
    rules = {
        name: {"min": -1.0, "max": 1e9, **_needed_by_text_rule(name, captions)}
        for name in TEXT_RULES
    }
    scorers = {name: FakeClip() if name == "clip" else FakeSsim() for name in SCORERS.names()}
    with FakeEndpoint("Is there a kite?") as server:
        writer = {"model": "fake", "endpoint": {"url": server.base_url}}
        own = {**OF_NO_MODEL, "questions": {"model": "org/model", "writer": writer}}
        recipe = _recipe(
            captions,
            curation={"rules": rules},
            generation={"candidates": 2},
            scoring={name: own.get(name, {}) for name in SCORERS.names()},
            export={"formats": EXPORTERS.names()},
        )
        run_with(recipe, folder / "run", lambda recipe: Models(FakeGenerator(), scorers))
    return folder / "run"


def test_labels_are_in_the_report(whole_run: Path) -> None:
    page = html.unescape((whole_run / "report" / "index.html").read_text())
    expected = [RULES.label(name) for name in TEXT_RULES]
    expected += [scorer_label(name, SCORERS.settings(name, {})) for name in SCORERS.names()]
    assert [label for label in expected if label not in page] == []


def test_rules_scores_and_formats_are_in_the_card(whole_run: Path) -> None:
    card = (whole_run / "dataset" / "README.md").read_text()
    before_recipe = card[: card.index("## Making it again")]
    assert [name for name in TEXT_RULES if f"- `{name}` >= -1.0" not in before_recipe] == []
    for name in SCORERS.names():
        label = scorer_label(name, SCORERS.settings(name, {}))
        assert f"| {label} |" in before_recipe
        assert f"{label}: {SCORERS[name].about}." in before_recipe
    assert [name for name in EXPORTERS.names() if EXPORTERS[name].usage not in before_recipe] == []


def test_scores_are_in_every_table_of_a_run(whole_run: Path) -> None:
    for folder in ("candidates", "selection.parquet", "dataset/data"):
        path = whole_run / folder
        file = path if path.is_file() else next(path.iterdir())
        names = pq.read_schema(file).names
        assert {score_column(name) for name in SCORERS.names()} <= {*names}, folder


def test_the_documentation_lists_the_rules_in_their_order() -> None:
    text = (ROOT / "docs" / "curation.md").read_text()
    table = text[text.index("| rule | measure | default |") :].split("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert [name for cell in cells for name in re.findall(r"`(\w+)`", cell)] == RULES.names()


def test_the_documented_defaults_are_those_of_the_rules() -> None:
    text = (ROOT / "docs" / "curation.md").read_text()
    for name in METHOD_RULES:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        default = row.split("|")[3]
        bounds = [bound for bound in RULES[name].default.bounds if bound is not None]
        assert [float(number) for number in re.findall(r"[\d.]+", default)] == bounds
