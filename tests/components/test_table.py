"""A table of components, on a kind that only these tests know."""

from __future__ import annotations

import sys
from typing import Annotated, Any, ClassVar

import pytest
from gadgets import Gadget, GadgetSettings, Lever, LeverSettings, Wheel
from pydantic import PlainValidator, ValidationError, create_model

from synthvlm.components import plugins
from synthvlm.components.component import LoadContext
from synthvlm.components.contract import contract
from synthvlm.components.settings import Settings
from synthvlm.components.table import Table, listed
from synthvlm.errors import PluginError, RecipeError
from synthvlm.recipe import Recipe
from synthvlm.recipe.problems import validated

ADVICE = "one of your own is added by --plugin FILE.py"
SOURCES = [{"path": "captions.txt"}]


class Spring(Gadget):
    name: ClassVar[str] = "spring"
    version = "1"


def test_a_listed_text_is_for_terminals() -> None:
    (about,) = [one.about for one in listed("rule") if one.name == "control_tokens"]
    assert about.endswith("such as `<image>`, `</s>`.")


def test_names_are_in_the_order_of_the_table_and_plug_ins_come_last(gadgets: Table[Gadget]) -> None:
    class Axle(Gadget):
        name: ClassVar[str] = "axle"
        version = "1"

    plugins.register(Spring)
    plugins.register(Axle)
    assert gadgets.names() == ["lever", "wheel", "axle", "spring"]
    assert gadgets.in_order({"spring", "wheel", "lever"}) == ["lever", "wheel", "spring"]


def test_a_name_leads_to_its_class(gadgets: Table[Gadget]) -> None:
    plugins.register(Spring)
    assert gadgets["lever"] is Lever
    assert gadgets["spring"] is Spring
    assert "spring" in gadgets
    assert "sprig" not in gadgets
    assert 5 not in gadgets


def test_an_unknown_name_is_answered_with_the_nearest(gadgets: Table[Gadget]) -> None:
    with pytest.raises(RecipeError) as caught:
        gadgets["levr"]
    assert str(caught.value) == f"there is no gadget 'levr', did you mean 'lever'?; {ADVICE}"


def test_an_unknown_name_that_resembles_none_is_answered_with_all(gadgets: Table[Gadget]) -> None:
    with pytest.raises(RecipeError) as caught:
        gadgets["zzz"]
    assert str(caught.value) == f"there is no gadget 'zzz' (valid: lever, wheel); {ADVICE}"


def test_a_label_is_the_name_where_the_class_has_none(gadgets: Table[Gadget]) -> None:
    assert [gadgets.label(name) for name in gadgets.names()] == ["The lever", "wheel"]


def test_what_is_on_by_default_is_there_unless_it_is_null(gadgets: Table[Gadget]) -> None:
    assert gadgets.defaults() == {"lever": LeverSettings()}
    assert gadgets.validate({"lever": None}) == {"lever": None}


def test_null_for_what_is_off_anyway_leaves_no_trace(gadgets: Table[Gadget]) -> None:
    assert gadgets.validate({"wheel": None}) == gadgets.validate({})


def test_settings_come_in_the_order_of_the_table(gadgets: Table[Gadget]) -> None:
    plugins.register(Spring)
    given = {"spring": {}, "wheel": {"weight": 2.0}, "lever": {"length": 9}}
    assert list(gadgets.validate(given).items()) == [
        ("lever", LeverSettings(length=9)),
        ("wheel", GadgetSettings(weight=2.0)),
        ("spring", GadgetSettings()),
    ]


def test_settings_that_are_validated_already_are_taken(gadgets: Table[Gadget]) -> None:
    once = gadgets.validate({"lever": {"length": 9}, "wheel": {}})
    assert gadgets.validate(once) == once


def _problems(table: Table[Gadget], value: Any) -> list[tuple[tuple[int | str, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        table.validate(value)
    return [(problem["loc"], problem["msg"]) for problem in caught.value.errors()]


def test_every_problem_is_told_with_its_place(gadgets: Table[Gadget]) -> None:
    given = {"levr": {}, "lever": {"lenght": 3, "weight": "x"}, "wheel": 5}
    found = dict(_problems(gadgets, given))
    assert found.keys() == {("levr",), ("lever", "lenght"), ("lever", "weight"), ("wheel",)}
    assert found["levr",] == f"there is no gadget 'levr', did you mean 'lever'?; {ADVICE}"
    assert found["lever", "lenght"] == "unknown key, did you mean 'length'?"
    assert found["lever", "weight"] == "Input should be a valid number"


def test_what_a_user_wrote_is_no_template_of_a_message(gadgets: Table[Gadget]) -> None:
    ((place, message),) = _problems(gadgets, {"{message}": {}})
    assert place == ("{message}",)
    assert message.startswith("there is no gadget '{message}'")


def test_a_name_that_is_no_text_is_a_problem(gadgets: Table[Gadget]) -> None:
    assert _problems(gadgets, {5: {}})[0][0] == ("5",)


def test_the_problems_of_a_recipe_carry_the_path_of_the_key(gadgets: Table[Gadget]) -> None:
    section = Annotated[dict[str, Any], PlainValidator(gadgets.validate)]
    model = create_model("Example", __base__=Settings, gadgets=(section, {}))
    with pytest.raises(RecipeError) as caught:
        validated(model, {"gadgets": {"lever": {"lenght": 1}, "whel": {}}}, "my.yaml")
    assert str(caught.value).splitlines() == [
        "my.yaml: gadgets.lever.lenght: unknown key, did you mean 'length'?",
        f"my.yaml: gadgets.whel: there is no gadget 'whel', did you mean 'wheel'?; {ADVICE}",
    ]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"scoring": {"clp": {}}},
            f"recipe: scoring.clp: there is no scorer 'clp', did you mean 'clip'?; {ADVICE}",
        ),
        (
            {"scoring": {"clip": {"prefx": "x"}}},
            "recipe: scoring.clip.prefx: unknown key, did you mean 'prefix'?",
        ),
        (
            {"scoring": {"clip": {"weight": -1.0}}},
            "recipe: scoring.clip.weight: input should be greater than or equal to 0 (got -1.0)",
        ),
        (
            {"curation": {"rules": {"judge": {"model": "m", "min": 0.5, "endpoint": {}}}}},
            "recipe: curation.rules.judge.endpoint.url: field required",
        ),
        (
            {"curation": {"rules": {"wrd_count": {"min": 1}}}},
            "recipe: curation.rules.wrd_count: there is no rule 'wrd_count', did you mean "
            f"'word_count'?; {ADVICE}",
        ),
        (
            {"curation": {"rules": []}},
            "recipe: curation.rules: expected settings (KEY: VALUE), not []",
        ),
        (
            {"selection": {"method": "topp"}},
            "recipe: selection.method: there is no selector 'topp', did you mean 'top'?; " + ADVICE,
        ),
        (
            {"selection": {"options": {"x": 1}}},
            "recipe: selection.options.x: unknown key",
        ),
        (
            {"generation": {"generator": "difusers"}},
            "recipe: generation.generator: there is no generator 'difusers', did you mean "
            f"'diffusers'?; {ADVICE}",
        ),
        (
            {"export": {"options": {"llava": {"instruction": []}}}},
            "recipe: export.options.llava.instruction: unknown key, did you mean 'instructions'?",
        ),
    ],
)
def test_every_table_of_the_recipe_tells_its_problems_so(
    values: dict[str, object], line: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_values({"sources": SOURCES, **values})
    assert str(caught.value) == line


def test_settings_of_one_component_are_placed_where_the_caller_says(gadgets: Table[Gadget]) -> None:
    assert gadgets.settings("lever", {"length": 1}) == LeverSettings(length=1)
    with pytest.raises(ValidationError) as caught:
        gadgets.settings("levr", {}, ("method",), ("options",))
    assert caught.value.errors()[0]["loc"] == ("method",)
    with pytest.raises(ValidationError) as caught:
        gadgets.settings("lever", {"length": "x"}, ("method",), ("options",))
    assert caught.value.errors()[0]["loc"] == ("options", "length")


def test_by_default_a_component_gets_its_own_settings_as_arguments(gadgets: Table[Gadget]) -> None:
    loaded = gadgets.load("lever", LeverSettings(length=7, weight=3.0), LoadContext())
    assert isinstance(loaded, Lever)
    assert loaded.length == 7
    assert isinstance(gadgets.load("wheel", GadgetSettings(), LoadContext()), Wheel)


def test_what_is_loaded_must_be_of_the_kind(gadgets: Table[Gadget]) -> None:
    class Odd(Gadget):
        name: ClassVar[str] = "odd"
        version = "1"

        @classmethod
        def load(cls, settings: Any, context: LoadContext) -> Any:
            return "no gadget"

    plugins.register(Odd)
    with pytest.raises(PluginError, match=r"gadget 'odd': load\(\) gave no Gadget"):
        gadgets.load("odd", GadgetSettings(), LoadContext())


def test_the_identity_of_a_component_of_this_package_has_no_version(gadgets: Table[Gadget]) -> None:
    def identity() -> object:
        return gadgets.identity("lever", LeverSettings(length=4), lambda name, _: name)

    assert identity() == ("lever", [("length", 4)])


def test_a_version_of_a_component_of_this_package_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_kinds", {})
    table = Table("gadget", Gadget, {"spring": f"{__name__}:Spring"})
    identity = table.identity("spring", GadgetSettings(), lambda name, _: name)
    assert identity == ("spring", [], "1")


def test_the_identity_of_a_plug_in_has_its_origin_and_version(gadgets: Table[Gadget]) -> None:
    plugins.register(Spring)
    identity = gadgets.identity("spring", GadgetSettings(), lambda name, _: name)
    assert identity == ("spring", [], ("python", "1"))


def test_a_component_cannot_end_the_run_as_if_all_were_well() -> None:
    with (
        pytest.raises(PluginError, match=r"generator 'mine' failed: SystemExit"),
        contract("generator", "mine"),
    ):
        sys.exit(0)
