"""What a change of each setting makes a run do again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from every_setting import (
    PLUG_INS,
    SettingOfRecipe,
    fingerprints,
    nested_settings,
    recipes,
    settings_of,
)

from synthvlm.captions.rules import RULES
from synthvlm.components import plugins
from synthvlm.components.settings import Settings
from synthvlm.exporters import EXPORTERS
from synthvlm.generators import GENERATORS
from synthvlm.recipe import Recipe
from synthvlm.scorers import SCORERS, ScorerSettings
from synthvlm.selectors import SELECTORS
from synthvlm.stages.data_set_fingerprints import whole_fingerprint

FILE = Path(__file__).with_name("reach_of_settings.txt")
#: What it decides depends on the machine: which devices there are.
OF_THE_MACHINE = "run.device"
#: Work that is about no caption and no image.
ABOUT_THE_RUN = ("run.", "report.", "export.license", "export.version")


def _table() -> dict[str, set[str]]:
    lines = [line for line in FILE.read_text().splitlines() if not line.startswith("#")]
    pairs = [line.split(": ") for line in lines]
    return {path: set(work.split(", ")) for path, work in pairs}


@pytest.fixture(scope="module")
def plain_values(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    for plugin in PLUG_INS:
        plugins.register(plugin)
    yield recipes(tmp_path_factory.mktemp("files"))
    plugins.forget()


@pytest.fixture(scope="module")
def places(plain_values: dict[str, dict[str, Any]]) -> dict[str, list[tuple[str, SettingOfRecipe]]]:
    """For each path the recipes that have it, and where."""
    found: dict[str, list[tuple[str, SettingOfRecipe]]] = {}
    for name, values in plain_values.items():
        for setting in settings_of(Recipe.from_values(values)):
            if setting.path != OF_THE_MACHINE:
                found.setdefault(setting.path, []).append((name, setting))
    return found


def test_no_setting_of_the_table_is_gone(
    places: dict[str, list[tuple[str, SettingOfRecipe]]],
) -> None:
    gone = _table().keys() - places.keys()
    assert not gone, f"settings are gone that users' recipes may have: {sorted(gone)}"


def test_the_recipes_have_every_setting_of_every_component(
    places: dict[str, list[tuple[str, SettingOfRecipe]]],
) -> None:
    seen = {(s.owner, s.name) for found in places.values() for _, s in found}
    models = nested_settings(Recipe)
    for table in (RULES, SCORERS, GENERATORS, SELECTORS, EXPORTERS):
        models |= {table[name].Settings for name in table.names() if table.release(name) is None}
    # Those of selectors and exporters are plain values in recipes (options); sections are followed.
    models -= {table[n].Settings for table in (SELECTORS, EXPORTERS) for n in table.names()}
    sections = {
        (model, name)
        for model in models
        for name, field in model.model_fields.items()
        if _is_section(field.annotation)
    }
    fields = {(model, name) for model in models for name in model.model_fields}
    missing = {(model.__name__, name) for model, name in fields - sections - seen}
    of_all_scorers = {("ScorerSettings", name) for name in ScorerSettings.model_fields}
    assert missing <= {("RunSettings", "device")} | of_all_scorers


def _is_section(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return True
    return any(_is_section(one) for one in getattr(annotation, "__args__", ()))


def test_a_new_setting_changes_something_or_is_marked(
    plain_values: dict[str, dict[str, Any]],
    places: dict[str, list[tuple[str, SettingOfRecipe]]],
) -> None:
    """Those that the table does not have yet, of a component that was just added, say."""
    for path in places.keys() - _table().keys():
        changes = []
        for name, setting in places[path]:
            changed = setting.changed(plain_values[name])
            if changed is not None:
                old = fingerprints(Recipe.from_values(plain_values[name]))
                changes.append(old != fingerprints(changed))
        assert any(changes) or all(setting.is_never for _, setting in places[path]), (
            f"nothing depends on {path}: is it left out of an identity by mistake? If not, mark it "
            f"InHash.NEVER"
        )


@pytest.mark.parametrize("path", _table())
def test_a_change_of_a_setting_redoes_that_and_nothing_else(
    path: str,
    plain_values: dict[str, dict[str, Any]],
    places: dict[str, list[tuple[str, SettingOfRecipe]]],
) -> None:
    redone: set[str] = set()
    tried = 0
    for name, setting in places[path]:
        before = Recipe.from_values(plain_values[name])
        changed = setting.changed(plain_values[name])
        if changed is None:
            continue
        tried += 1
        old, new = fingerprints(before), fingerprints(changed)
        work = {name for name in {*old, *new} if old.get(name) != new.get(name)}
        redone |= {re.sub(r"^written \d+$", "written", name) for name in work}
        # The card shows all settings.
        assert whole_fingerprint(before, {}) != whole_fingerprint(changed, {})
    assert tried, f"no other value of {path} is valid in any recipe: add one to _others"
    assert (redone or {"nothing"}) == _table()[path]
    if not redone and not path.startswith(ABOUT_THE_RUN):
        message = f"nothing depends on {path}: is it left out of an identity by mistake? If not, "
        assert all(s.is_never for _, s in places[path]), message + "mark it InHash.NEVER"
