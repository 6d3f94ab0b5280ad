"""A training of an earlier release goes on: a setting that came later had its default."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from synthvlm.errors import RunFolderError
from synthvlm.training.recipe import _RUN_TIME, TrainingRecipe, changed_settings
from synthvlm.training.train import train

#: The least that a recipe names, and what is part of something that is off.
WHOLE: dict[str, Any] = {
    "stage": "finetune",
    "prompt": "v1",
    "image": "pad",
    "data": [{"path": "a.json"}],
    "lora": {},
}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


LEAVES = dict(_flat(TrainingRecipe.from_values(WHOLE).model_dump()))


def _set(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(values)
    *sections, name = key.split(".")
    place = changed
    for section in sections:
        place = place[section]
    place[name] = value
    return changed


def _without(values: dict[str, Any], key: str) -> dict[str, Any]:
    changed = copy.deepcopy(values)
    *sections, name = key.split(".")
    place = changed
    for section in sections:
        place = place[section]
    del place[name]
    return changed


#: Each setting has another valid value among these.
OTHERS: list[Any] = [
    *("another", -3, 4, 256, 0.25, True, False, [{"path": "b.json"}]),
    *("gelu", "relu", "linear", "float32", "v1", "plain", "crop", "pad", "pretrain"),
]


@pytest.mark.parametrize("key", LEAVES)
def test_a_change_of_a_setting_is_told_unless_it_changes_no_result(key: str) -> None:
    whole = TrainingRecipe.from_values(WHOLE)
    if key == "stage":
        assert whole.stage != "pretrain"
        other = TrainingRecipe.from_values({**WHOLE, "stage": "pretrain", "lora": None})
        assert "stage" in changed_settings(whole, other)
        return
    for value in OTHERS:
        try:
            other = TrainingRecipe.from_values(_set(whole.model_dump(), key, value))
        except Exception:  # not a valid value of this one
            continue
        if other != whole:
            assert changed_settings(whole, other) == ([] if key in _RUN_TIME else [key])
            return
    pytest.fail(f"no other value of {key} is valid: name one in OTHERS")


def test_settings_without_a_result_exist() -> None:
    assert LEAVES.keys() >= _RUN_TIME


@pytest.mark.parametrize("key", sorted(LEAVES.keys() - {"stage", "prompt", "image", "data"}))
def test_a_setting_that_an_old_recipe_lacks_has_not_changed(key: str) -> None:
    whole = TrainingRecipe.from_values(WHOLE)
    old = TrainingRecipe.from_values(_without(whole.model_dump(), key))
    assert changed_settings(old, whole) == []


@pytest.fixture(scope="module")
def trained(
    recipes: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TrainingRecipe]:
    recipe = TrainingRecipe.from_values(recipes["pretrain"])
    out = tmp_path_factory.mktemp("later") / "out"
    train(recipe, out)
    return out, recipe


def test_a_folder_whose_recipe_lacks_settings_goes_on(
    trained: tuple[Path, TrainingRecipe], tmp_path: Path
) -> None:
    before, recipe = trained
    out = Path(shutil.copytree(before, tmp_path / "out"))
    written = yaml.safe_load((out / "training.yaml").read_text())
    for key in ("grouping", "lora", "optimisation.tf32", "model.projector_hidden_act"):
        written = _without(written, key)
    (out / "training.yaml").write_text(yaml.safe_dump(written))
    weights = (out / "model" / "model.safetensors").stat().st_mtime_ns
    train(recipe, out)
    assert (out / "model" / "model.safetensors").stat().st_mtime_ns == weights
    assert yaml.safe_load((out / "training.yaml").read_text())["grouping"] is True
    (out / "training.yaml").write_text(yaml.safe_dump(written))
    other = TrainingRecipe.from_values({**recipe.model_dump(), "grouping": False})
    with pytest.raises(RunFolderError, match="is the folder of another training: grouping changed"):
        train(other, out)
