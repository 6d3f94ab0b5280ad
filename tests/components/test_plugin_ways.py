"""The three ways of a plug-in into a table, and what is refused on each."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from gadgets import Gadget, GadgetSettings

from synthvlm.captions.rules import RULES
from synthvlm.components import plugins
from synthvlm.components.settings import Settings
from synthvlm.components.table import Table
from synthvlm.errors import PluginError, RecipeError
from synthvlm.recipe import Recipe
from synthvlm.stages.curation.curate import reasons_in_order

HEAD = "from gadgets import Gadget\nfrom synthvlm.components.settings import Settings\n"
SPRING = HEAD + "class Spring(Gadget):\n    name = 'spring'\n"
VERSIONED = SPRING + "    version = '{}'\n"


class Spring(Gadget):
    name: ClassVar[str] = "spring"
    version = "1"


def _written(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _refusal(path: Path) -> str:
    with pytest.raises(PluginError) as caught:
        plugins.load_plugin(path)
    return str(caught.value)


def _identity(table: Table[Gadget], name: str = "spring") -> Any:
    return table.identity(name, table[name].Settings(), lambda model, _: model)


# A class.


def test_a_class_is_registered(gadgets: Table[Gadget]) -> None:
    plugins.register(Spring)
    assert gadgets["spring"] is Spring
    plugins.register(Spring)  # again: nothing happens
    assert plugins.loaded() == [Spring]
    plugins.forget()
    assert "spring" not in gadgets


def _gadget(**attributes: Any) -> type[Gadget]:
    return type("Odd", (Gadget,), attributes)


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (
            _gadget(name="odd"),
            "gadget 'odd' has no version, so its results cannot be known again: set "
            '`version = "1"` in the class, and change it when its results change',
        ),
        (
            _gadget(name="lever", version="1"),
            "there is a gadget 'lever' already: give yours another name",
        ),
        (
            _gadget(name="taken", version="1"),
            "there is a gadget 'taken' already: give yours another name",
        ),
        (
            _gadget(name="My-Gadget", version="1"),
            "gadget Odd: its name is 'My-Gadget'; give it one of lower case letters, digits and "
            "underscores",
        ),
        (
            _gadget(name="odd\n", version="1"),
            "gadget Odd: its name is 'odd\\n'; give it one of lower case letters, digits and "
            "underscores",
        ),
        (
            _gadget(version="1"),
            "gadget Odd: its name is None; give it one of lower case letters, digits and "
            "underscores",
        ),
        (
            _gadget(name="odd", version="1", Settings=Settings),
            "gadget 'odd': its Settings must be a subclass of GadgetSettings",
        ),
        (
            _gadget(name="odd", version="1", Settings=GadgetSettings()),
            "gadget 'odd': its Settings must be a subclass of GadgetSettings",
        ),
    ],
)
def test_a_class_that_cannot_be_a_component_is_refused(
    gadgets: Table[Gadget], component: type[Gadget], message: str
) -> None:
    with pytest.raises(PluginError) as caught:
        plugins.register(component)
    assert str(caught.value) == message
    assert gadgets.names() == ["lever", "wheel"]


@pytest.mark.parametrize("component", [int, 5, Spring()])
def test_what_is_no_component_is_refused(gadgets: Table[Gadget], component: Any) -> None:
    with pytest.raises(PluginError, match="is no component: make it a subclass of one of Gadget"):
        plugins.register(component)


def test_two_classes_of_one_name_are_refused_whatever_their_versions(
    gadgets: Table[Gadget],
) -> None:
    plugins.register(Spring)
    for version in ("1", "2"):
        with pytest.raises(PluginError, match="two plug-ins have a gadget 'spring': name one of"):
            plugins.register(_gadget(name="spring", version=version))
    assert gadgets["spring"] is Spring


def test_a_class_that_is_defined_again_takes_its_own_place(gadgets: Table[Gadget]) -> None:
    plugins.register(_gadget(name="spring", version="1"))
    again = _gadget(name="spring", version="2")
    plugins.register(again)
    assert gadgets["spring"] is again
    assert _identity(gadgets)[-1] == ("python", "2")


# A file.


def test_a_file_adds_every_component_that_it_defines(
    gadgets: Table[Gadget], tmp_path: Path
) -> None:
    text = SPRING + "class Axle(Spring):\n    name = 'axle'\nclass Base(Gadget):\n    pass\n"
    plugins.load_plugin(_written(tmp_path, text))
    assert gadgets.names() == ["lever", "wheel", "axle", "spring"]
    assert len(plugins.loaded()) == 1


def test_what_a_file_imports_is_not_its_own(gadgets: Table[Gadget], tmp_path: Path) -> None:
    text = "from gadgets import Lever\nclass Axle(Lever):\n    name = 'axle'\n"
    plugins.load_plugin(_written(tmp_path, text))
    assert gadgets.names() == ["lever", "wheel", "axle"]


def test_a_file_without_a_version_is_known_by_its_content(
    gadgets: Table[Gadget], tmp_path: Path
) -> None:
    def identity(text: str, name: str) -> Any:
        plugins.forget()
        plugins.load_plugin(_written(tmp_path, text, name))
        return _identity(gadgets)

    first = identity(SPRING, "a.py")
    assert identity(SPRING, "elsewhere/b.py") == first
    assert identity(SPRING + "# changed\n", "a.py") != first


def test_a_file_with_a_version_is_known_by_that(gadgets: Table[Gadget], tmp_path: Path) -> None:
    identities = []
    for text in (VERSIONED.format(3), VERSIONED.format(3) + "# changed\n", VERSIONED.format(4)):
        plugins.load_plugin(_written(tmp_path, text))
        identities.append(_identity(gadgets))
    assert identities[0] == ("spring", [], ("file", "3"))
    assert identities[1] == identities[0] != identities[2]


def test_two_files_with_one_name_are_refused(gadgets: Table[Gadget], tmp_path: Path) -> None:
    plugins.load_plugin(_written(tmp_path, VERSIONED.format(1), "a.py"))
    other = _written(tmp_path, VERSIONED.format(1) + "    weight = 5\n", "b.py")
    assert _refusal(other) == "two plug-ins have a gadget 'spring': name one of them anew"


def test_a_file_that_is_read_twice_is_there_once(gadgets: Table[Gadget], tmp_path: Path) -> None:
    path = _written(tmp_path, SPRING)
    plugins.load_plugin(path)
    spring = gadgets["spring"]
    plugins.load_plugin(path)
    assert gadgets["spring"] is spring


def test_a_file_that_changed_is_read_again(gadgets: Table[Gadget], tmp_path: Path) -> None:
    plugins.load_plugin(_written(tmp_path, SPRING))
    plugins.load_plugin(_written(tmp_path, SPRING + "    label = 'new'\n"))
    assert gadgets.label("spring") == "new"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f(:", "SyntaxError: "),
        ("x = 1", "defines no component: no class in it is a subclass of Gadget"),
        ("from gadgets import Lever", "defines no component: "),
    ],
)
def test_a_file_that_breaks_or_defines_nothing_is_refused(
    gadgets: Table[Gadget], tmp_path: Path, text: str, message: str
) -> None:
    path = _written(tmp_path, text)
    for _ in range(2):
        assert _refusal(path).startswith(f"--plugin {path}: {message}")


def test_a_file_whose_only_component_has_no_name_is_refused(
    gadgets: Table[Gadget], tmp_path: Path
) -> None:
    text = HEAD + "class Spring(Gadget):\n    pass\n"
    assert _refusal(_written(tmp_path, text)).startswith("gadget Spring: its name is None; ")


def test_a_file_with_a_bad_name_is_refused(gadgets: Table[Gadget], tmp_path: Path) -> None:
    text = HEAD + "class Spring(Gadget):\n    name = '../x'\n"
    assert _refusal(_written(tmp_path, text)).startswith("gadget Spring: its name is '../x'; ")


def test_a_file_that_cannot_be_read_is_refused(gadgets: Table[Gadget], tmp_path: Path) -> None:
    gone = tmp_path / "gone.py"
    assert _refusal(gone) == f"--plugin {gone}: cannot be read: No such file or directory"
    odd = tmp_path / "odd.py"
    odd.write_bytes(b"\xff\xfe\xff")
    assert _refusal(odd) == f"--plugin {odd}: cannot be read: it is not UTF-8 text"


def test_settings_of_a_file_are_validated_and_sent(gadgets: Table[Gadget], tmp_path: Path) -> None:
    text = (
        HEAD
        + "from gadgets import GadgetSettings\n"
        + "class Tension(GadgetSettings):\n    tension: int = 1\n"
        + "class Spring(Gadget):\n    name = 'spring'\n    Settings = Tension\n"
    )
    plugins.load_plugin(_written(tmp_path, text))
    settings = gadgets.settings("spring", {"tension": 4})
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert _identity(gadgets)[1] == []
    with pytest.raises(ValueError, match=r"unknown key, did you mean 'tension'\?"):
        gadgets.settings("spring", {"tensoin": 4})


def test_plug_ins_are_restored_elsewhere(gadgets: Table[Gadget], tmp_path: Path) -> None:
    path = _written(tmp_path, SPRING.replace("spring", "axle").replace("Spring", "Axle"))
    plugins.load_plugin(path)
    plugins.register(Spring)
    sent = pickle.loads(pickle.dumps(plugins.loaded()))
    path.unlink()  # another machine has no such file
    plugins.forget()
    plugins.restore(sent)
    plugins.restore(sent)
    assert gadgets.names() == ["lever", "wheel", "axle", "spring"]


# An installed package.


def test_an_installed_package_adds_its_components(gadgets: Table[Gadget], install: Any) -> None:
    install("springs", {"spring": "springs:Spring"}, SPRING, "2.5")
    assert gadgets.names() == ["lever", "wheel", "spring"]
    assert gadgets["spring"].__module__ == "springs"
    assert _identity(gadgets) == ("spring", [], ("springs", "2.5"))
    assert plugins.loaded() == []  # other processes find it by themselves


def test_a_version_of_the_class_goes_before_that_of_the_package(
    gadgets: Table[Gadget], install: Any
) -> None:
    install("versioned", {"spring": "versioned:Spring"}, VERSIONED.format("7"), "2.5")
    assert _identity(gadgets) == ("spring", [], ("versioned", "7"))


def test_a_package_that_is_not_used_is_not_imported(gadgets: Table[Gadget], install: Any) -> None:
    install("unused", {"spring": "unused:Spring"}, "raise RuntimeError")
    assert gadgets.defaults().keys() == {"lever"}
    assert "spring" in gadgets
    assert "unused" not in sys.modules


@pytest.mark.parametrize(
    ("package", "text", "message"),
    [
        (
            "breaking",
            "raise RuntimeError('two\\nlines')",
            "gadget 'spring' of breaking 1.0 cannot be imported: RuntimeError: two",
        ),
        (
            "lacking",
            "",
            "gadget 'spring' of lacking 1.0 cannot be imported: AttributeError: ",
        ),
        (
            "renamed",
            SPRING.replace("'spring'", "'axle'"),
            "gadget 'spring': the entry point leads to one named 'axle'",
        ),
        ("wrong", "Spring = int", "<class 'int'> is no component: make it a subclass of one of"),
    ],
)
def test_a_package_that_breaks_is_named_when_it_is_used(
    gadgets: Table[Gadget], install: Any, package: str, text: str, message: str
) -> None:
    install(package, {"spring": f"{package}:Spring"}, text)
    assert gadgets.names() == ["lever", "wheel", "spring"]
    with pytest.raises(PluginError) as caught:
        gadgets.validate({"spring": {}})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_two_packages_with_one_name_are_refused_every_time(
    gadgets: Table[Gadget], install: Any
) -> None:
    install("one", {"spring": "one:Spring"}, SPRING)
    install("two", {"spring": "two:Spring"}, SPRING)
    for _ in range(2):
        with pytest.raises(PluginError) as caught:
            gadgets.names()
        words = "synthvlm.gadgets: 'spring' of {} has a name that {} has already: uninstall one"
        found = str(caught.value)
        assert found.startswith((words.format("one", "two"), words.format("two", "one")))


@pytest.mark.parametrize("name", ["lever", "taken"])
def test_a_package_cannot_take_a_name_of_this_one(
    gadgets: Table[Gadget], install: Any, name: str
) -> None:
    install("greedy", {name: "greedy:Spring"})
    with pytest.raises(PluginError, match=f"'{name}' of greedy has a name that this package has"):
        gadgets.names()


def test_a_file_cannot_take_the_name_of_an_installed_one(
    gadgets: Table[Gadget], install: Any, tmp_path: Path
) -> None:
    install("first", {"spring": "first:Spring"}, SPRING)
    assert _refusal(_written(tmp_path, SPRING)).startswith("there is a gadget 'spring' already")


# In recipes.

SCORER = """
from typing import Annotated
from synthvlm.components.settings import InHash
from synthvlm.scorers import Scorer, ScorerSettings

class DullnessSettings(ScorerSettings):
    level: int = 3

class Dullness(Scorer):
    name = "dullness"
    Settings = DullnessSettings
"""


def test_a_recipe_names_what_is_registered_and_nothing_else(
    forgotten: None, tmp_path: Path
) -> None:
    values = {"sources": [{"path": "a.txt"}], "scoring": {"dullness": {"level": 4}}}
    with pytest.raises(RecipeError, match=r"there is no scorer 'dullness' \(valid: "):
        Recipe.from_values(values)
    plugins.load_plugin(_written(tmp_path, SCORER))
    recipe = Recipe.from_values(values)
    assert recipe.score_columns == ["clip_score", "ssim_score", "dullness_score", "score"]
    again = Recipe.from_values(recipe.model_dump(mode="json"))
    assert again == recipe


EXPORTER = """
from synthvlm.components.settings import Settings
from synthvlm.exporters import Exporter

class LinesSettings(Settings):
    separator: str

class Lines(Exporter):
    name = "lines"
    Settings = LinesSettings
"""


def test_an_exporter_may_have_a_setting_without_a_default(forgotten: None, tmp_path: Path) -> None:
    plugins.load_plugin(_written(tmp_path, EXPORTER))
    values: dict[str, Any] = {"sources": [{"path": "a.txt"}], "export": {"formats": ["lines"]}}
    with pytest.raises(RecipeError, match="separator: "):
        Recipe.from_values(values)
    values["export"]["options"] = {"lines": {"separator": "|"}}
    settings = Recipe.from_values(values).export.exporters()["lines"]
    assert settings.model_dump() == {"separator": "|"}


def test_a_recipe_takes_its_plug_ins_to_other_processes(forgotten: None, tmp_path: Path) -> None:
    plugins.load_plugin(_written(tmp_path, SCORER))
    recipe = Recipe.from_values({"sources": [{"path": "a.txt"}], "scoring": {"dullness": {}}})
    sent = tmp_path / "recipe.pickle"
    sent.write_bytes(pickle.dumps(recipe))
    (tmp_path / "mine.py").unlink()
    script = (
        "import pickle, sys; recipe = pickle.load(open(sys.argv[1], 'rb'));"
        "print(recipe.scoring['dullness'].level)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(sent)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "3"


def test_a_plug_in_that_breaks_at_import_breaks_no_run_that_does_not_use_it(
    install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins._kinds["rule"], "installed", None)
    install("breaks", {"broken": "breaks:Broken"}, "raise RuntimeError", group="synthvlm.rules")
    assert "broken" in RULES
    Recipe.from_values({"sources": [{"path": "a.txt"}]})
    reasons = ["judge", "duplicate", "alnum_ratio", "gone"]
    assert reasons_in_order(reasons) == ["alnum_ratio", "duplicate", "judge", "gone"]
