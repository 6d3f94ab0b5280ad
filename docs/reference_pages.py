"""Write the pages of docs/reference/ anew: python docs/reference_pages.py."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import griffe
import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import synthvlm.cli
from synthvlm.components.table import TABLES
from synthvlm.recipe import Recipe
from synthvlm.recipe.listing import ListedSetting, listed_settings
from synthvlm.training.recipe import TrainingRecipe

FOLDER = Path(__file__).with_name("reference")
SOURCE = Path(__file__).resolve().parents[1] / "src"
WRITTEN = "<!-- Written by docs/reference_pages.py from the code. -->\n"
RUN_OR_TRAINING = {"Recipe": "run", "TrainingRecipe": "training"}
WORDS = {str: "text", int: "integer", float: "number", bool: "true or false", Any: "any value"}


def pages() -> dict[str, str]:
    """All pages, by their file names."""
    return {"recipe.md": recipe_page(), "commands.md": commands_page(), "api.md": api_page()}


# The recipe.


def recipe_page() -> str:
    """Every setting of a run's recipe and of a training's, in tables by section."""
    return "\n".join(
        [
            WRITTEN,
            "# Recipe",
            "",
            "Every setting, with the key by which `--set KEY=VALUE` changes it. Of a list "
            "(`sources`, `generation.loras`) the keys are those of its first entry, `.0`. "
            "`synthvlm recipes sdxl > my.yaml` prints a built-in recipe to edit; a default here is "
            "that of a recipe that does not name the setting. An unknown key, a wrong type and an "
            "impossible combination are refused before any model is loaded.",
            "",
            "## Recipe of a run",
            *_sections(Recipe),
            "",
            "## Recipe of a training",
            "",
            "For `synthvlm train`, which has built-in recipes, too.",
            *_sections(TrainingRecipe),
            "",
        ]
    )


def _sections(model: type[BaseModel]) -> Iterator[str]:
    sections: dict[str, list[ListedSetting]] = {}
    for setting in listed_settings(model):
        sections.setdefault(setting.key.rpartition(".")[0], []).append(setting)
    for key, settings in sections.items():
        yield f"\n### `{key}`\n" if key else ""
        yield from _about(key, settings[0].model)
        yield "| setting | value | default | |\n|---|---|---|---|"
        for setting in settings:
            field = setting.field
            name = setting.key.rpartition(".")[2]
            about = field.description or _first(_inner_model(field.annotation).__doc__)
            yield _row(f"`{name}`", _value(setting), _default(field), about)


def _about(key: str, model: type[BaseModel]) -> Iterator[str]:
    """What a section is: of a component's the component, else of its settings."""
    section, _, name = key.rpartition(".")
    kind = {"curation.rules": "rule", "scoring": "scorer"}.get(section)
    if kind:
        component = TABLES[kind][name]
        yield f"{component.label or name}: {_first(component.__doc__)}\n"
    elif key == "selection.options":
        yield "Of the method that `selection.method` names.\n"
    elif model.__doc__:
        yield f"{_first(model.__doc__)}\n"


def _value(setting: ListedSetting) -> str:
    if setting.choices and setting.choices != ("null",) and len(setting.choices) <= 15:
        listed = ", ".join(f"`{choice}`" for choice in setting.choices)
        if get_origin(setting.field.annotation) is Literal or setting.choices == ("true", "false"):
            return listed
    words, null, _ = _words(setting.field.annotation).partition(" or null")
    bounds = [
        f"{sign} {_number(getattr(mark, name))}"
        for mark in setting.field.metadata
        for name, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if getattr(mark, name, None) is not None
    ]
    if null and bounds:
        null = f",{null}"
    return " ".join([words, " and ".join(bounds)]).strip() + null


def _number(bound: float) -> str:
    """A bound, of seeds as a power of two."""
    large = isinstance(bound, int) and bound >= 2**32
    return f"2^{bound.bit_length() - 1}" if large else f"{bound:g}"


def _words(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "null"
    if annotation in WORDS:
        return WORDS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin is list:
        return f"list of {_words(parts[0])}".replace("section", "sections")
    if origin is dict:
        return f"mapping to {_words(parts[1])}"
    if hasattr(annotation, "__metadata__"):
        return _words(parts[0])
    return " or ".join(dict.fromkeys(_words(part) for part in parts))


def _inner_model(annotation: Any) -> type[BaseModel]:
    models = [part for part in get_args(annotation) if part is not type(None)]
    assert issubclass(models[0], BaseModel), annotation
    return models[0]


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    assert value is not PydanticUndefined
    text = json.dumps(value, ensure_ascii=False, default=_plain)
    return f"`{text}`"


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value.model_dump()


# The commands.


def commands_page() -> str:
    """Every command, with its arguments and options, from the parser."""
    group: Any = typer.main.get_command(synthvlm.cli.app)
    lines = [
        WRITTEN,
        "# Commands",
        "",
        "What `--help` of each command says. [Commands and installation](../install.md) sorts them "
        "by purpose; most are functions of the package, too: [Python](../python.md#commands).",
    ]
    for name, command in group.commands.items():
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        usage = " ".join(["synthvlm", name, *map(_argument, arguments), "[OPTIONS]"])
        lines += ["", f"## `{name}`", "", command.help, "", "```text", usage, "```", ""]
        lines += ["| | |", "|---|---|"]
        lines += [_row(_names(one), _help(one)) for one in command.params if not one.hidden]
    return "\n".join([*lines, ""])


def _argument(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    name += "..." if argument.nargs != 1 else ""
    return name if argument.required else f"[{name}]"


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    return f"{names} {parameter.metavar}" if parameter.metavar else names


def _help(parameter: Any) -> str:
    text, default = parameter.help or "", parameter.default
    if parameter.required and parameter.param_type_name == "option":
        text += " Required."
    elif default not in (None, False, True, "", [], ()) and not callable(default):
        text += f" Default: `{_plain(default) if isinstance(default, Enum) else default}`."
    return text


# The package.


def api_page() -> str:
    """The public names of `synthvlm`, from their docstrings."""
    package = griffe.load("synthvlm", search_paths=[SOURCE], docstring_parser="google")
    lines = [
        WRITTEN,
        "# Python API",
        "",
        "The names that `from synthvlm import ...` gives. [Python and notebooks](../python.md) "
        "shows them at work; components of your own have [a page](../extending.md).",
    ]
    objects = {name: _target(package[name]) for name in sorted(package.exports or (), key=str)}
    classes = {name: item for name, item in objects.items() if item.is_class}
    functions = {name: item for name, item in objects.items() if item.is_function}
    lines.append("\n## Classes")
    for name, item in [*classes.items(), ("Table", _target(package["run.Table"]))]:
        lines += _class(name, item)
    lines.append("\n## Functions")
    for name, item in functions.items():
        lines += ["", f"### `{name}`", "", *_signature(name, item), *_docstring(item)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join([*lines, ""]))


def _target(item: Any) -> Any:
    return item.final_target if item.is_alias else item


def _class(name: str, item: Any) -> Iterator[str]:
    yield f"\n### `{name}`\n"
    if (init := item.members.get("__init__")) is not None:
        yield from _signature(name, init)
    yield from _docstring(item)
    if name in RUN_OR_TRAINING:
        yield f"Its settings: [{name}](recipe.md#recipe-of-a-{RUN_OR_TRAINING[name]}).\n"
    if init is not None and init.docstring:
        yield from _docstring(init)
    settings = {one.name for one in item.members.values() if not one.docstring}
    for member in item.members.values():
        if member.name in settings or (member.name.startswith("_") and not _operator(member.name)):
            continue
        yield f"\n#### `{name}.{member.name}`\n"
        if member.is_function:
            prefix = f"{name}." if "classmethod" in member.labels else ""
            yield from _signature(prefix + member.name, member)
        yield from _docstring(member)


def _operator(name: str) -> bool:
    return name in {"__len__", "__iter__", "__getitem__"}


def _signature(name: str, function: Any) -> list[str]:
    def shown(parameter: Any) -> str:
        text = {"variadic positional": "*", "variadic keyword": "**"}.get(parameter.kind.value, "")
        text += parameter.name
        if parameter.annotation is not None:
            text += f": {parameter.annotation}"
        if parameter.default is not None and not text.startswith("*"):
            text += f" = {parameter.default}" if parameter.annotation else f"={parameter.default}"
        return text

    parts, starred = [], False
    for parameter in function.parameters:
        if parameter.name in {"self", "cls"}:
            continue
        starred = starred or parameter.kind.value == "variadic positional"
        if parameter.kind.value == "keyword-only" and not starred:
            parts.append("*")
            starred = True
        parts.append(shown(parameter))
    returns = "" if function.name == "__init__" else f" -> {function.returns}"
    line = f"{name}({', '.join(parts)}){returns}"
    if len(line) > 88:
        line = f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returns}"
    return ["```python", line, "```", ""]


def _docstring(item: Any) -> Iterator[str]:
    if not item.docstring:
        return
    for section in item.docstring.parsed:
        kind, value = section.kind.value, section.value
        if kind == "text":
            yield f"{value}\n"
        elif kind == "admonition":
            code = re.sub(r" *# doctest: \+SKIP", "", value.description)
            yield f"{section.title}:\n\n```pycon\n{code}\n```\n"
        elif kind == "examples":
            for _, code in value:
                yield f"```pycon\n{code}\n```\n"
        elif kind in {"parameters", "attributes", "raises", "returns", "yields"}:
            yield f"{kind.capitalize()}:\n"
            for item in value:
                yield f"- {_item(kind, item)}"
            yield ""
        else:
            raise NotImplementedError(f"{item.path}: a section of {kind}")


def _item(kind: str, item: Any) -> str:
    text = " ".join(item.description.split())
    if kind == "raises":
        return f"`{item.annotation}`: {text}"
    return f"`{item.name}`: {text}" if getattr(item, "name", "") else text


# Both.


def _first(doc: str | None) -> str:
    """The first paragraph of a docstring."""
    assert doc
    return " ".join(doc.split("\n\n")[0].split())


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")
