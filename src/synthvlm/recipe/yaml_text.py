"""Recipes as text: strict YAML, and single changes to it."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from synthvlm.errors import RecipeError
from synthvlm.safe_text import without_secrets

__all__ = ["apply_change", "dump_yaml", "parse_recipe", "without_url_secrets"]


#: A recipe has some hundred; a list of allowed names may have thousands.
_MAX_VALUES = 100_000


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML of bounded size, in which a key given twice is an error and not the last one wins."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            self._check_size(node, {}, ())
        return node

    def _check_size(
        self, node: yaml.Node, sizes: dict[int, int], above: tuple[yaml.Node, ...]
    ) -> int:
        """How many values a node stands for, aliases written out: ten lines can be billions."""
        if id(node) in sizes:
            return sizes[id(node)]
        if any(node is other for other in above):
            raise yaml.constructor.ConstructorError(
                None, None, "an anchor holds itself", node.start_mark
            )
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = list(node.value)
        size = 1 + sum(self._check_size(part, sizes, (*above, node)) for part in inner)
        if size > _MAX_VALUES:
            raise yaml.constructor.ConstructorError(
                None, None, f"more than {_MAX_VALUES:,} values", node.start_mark
            )
        sizes[id(node)] = size
        return size

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _construct_int(loader: _UniqueKeyLoader, node: yaml.ScalarNode) -> int:
    value = int(loader.construct_yaml_int(node))
    if abs(value) >= 2**63:  # Python reads, but does not write, thousands of digits
        raise yaml.constructor.ConstructorError(None, None, "a huge number", node.start_mark)
    return value


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)

# YAML 1.1 reads 1e-3 as a string; people who write recipes mean a number.
_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


#: Marks that turn the direction of writing, so that a text looks like another one.
_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class _Dumper(yaml.SafeDumper):
    """YAML in which Unicode's own line ends are escaped: PyYAML writes but does not read them."""


def dump_yaml(values: dict[str, Any]) -> str:
    """Values as YAML that reads back as the same values, secrets of URLs left out."""
    text = yaml.dump(
        without_url_secrets(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True
    )
    # They are in double quotes, where an escape stands for itself.
    return _TURNING.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def without_url_secrets(value: Any) -> Any:
    """Values in which no URL holds a secret; texts that are no URL stay as they are."""
    if isinstance(value, dict):
        return {key: without_url_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(without_url_secrets, value))
    is_url = isinstance(value, str) and re.fullmatch(r"\S+://\S+", value) is not None
    return without_secrets(value) if is_url else value


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if set(text) & set("\x85\u2028\u2029\ufeff") or _TURNING.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _represent_text)


#: What PyYAML's own constructors raise on values such as 2026-99-99, beside its own errors.
_YAML_ERRORS = (
    yaml.YAMLError,
    RecursionError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
)


def _load(text: str) -> Any:
    return yaml.load(text, Loader=_UniqueKeyLoader)


def parse_recipe(text: str, label: str) -> dict[str, Any]:
    """Read a recipe's values.

    Raises:
        RecipeError: It is no YAML, gives a key twice, or is no mapping.
    """
    try:
        values = _load(text)
    except _YAML_ERRORS as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise RecipeError(f"recipe {label}{where}: {problem}") from None
    if not isinstance(values, dict):
        raise RecipeError(f"recipe {label} is not a mapping of settings")
    return values


def apply_change(values: dict[str, Any], change: str) -> None:
    """Apply ``KEY=VALUE`` to values as read from YAML; in a list the key is a number.

    Raises:
        RecipeError: The change is not of that form, or leads nowhere.
    """
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {change}: expected KEY=VALUE, e.g. generation.steps=30")
    try:
        value = _load(text)
    except _YAML_ERRORS:
        raise RecipeError(f"--set {change}: the value is not valid YAML") from None
    *parents, last = key.split(".")
    place: Any = values
    for depth, part in enumerate(parents):
        if isinstance(place, list):
            place = place[_position(place, part, change)]
        else:
            if not isinstance(place.get(part), dict | list):
                place[part] = {}
            place = place[part]
        if not isinstance(place, dict | list):
            path = ".".join(parents[: depth + 1])
            raise RecipeError(f"--set {change}: {path} holds no settings")
    if isinstance(place, list):
        place[_position(place, last, change)] = value
    else:
        place[last] = value


def _position(place: list[Any], part: str, change: str) -> int:
    if not part.isdecimal() or int(part) >= len(place):
        raise RecipeError(f"--set {change}: expected a number below {len(place)}, not {part!r}")
    return int(part)
