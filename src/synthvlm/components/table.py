"""Tables of components: which rules, scorers, generators, selectors and exporters there are.

A component is a class in one file. Its table has one line for it; the recipe's section, its
validation, the columns of the data, the labels of reports and the fingerprints follow from the
class. Users add to a table without touching it, see ``plugins``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, LiteralString, TypeVar

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from synthvlm.components import plugins
from synthvlm.components import settings as base
from synthvlm.components.component import Component, LoadContext
from synthvlm.components.contract import contract
from synthvlm.components.settings import Identify
from synthvlm.errors import PluginError, RecipeError, nearest

__all__ = ["ListedComponent", "Table", "listed"]

C = TypeVar("C", bound="Component")
#: The table of each kind.
TABLES: dict[str, Table[Any]] = {}


class Table(Generic[C]):
    """The components of a kind, by name: the built-in ones in their order, then plug-ins."""

    def __init__(
        self,
        kind: str,
        base_class: type[C],
        builtin: Mapping[str, str],
        on_by_default: Sequence[str] = (),
        reserved: Collection[str] = (),
    ) -> None:
        """Name the built-in components.

        Args:
            kind: Such as ``scorer``; plug-ins are found by the entry points
                ``synthvlm.<kind>s``.
            base_class: What every component of the kind is a subclass of.
            builtin: For each name the class, as ``module:Class``; it is imported on first use.
            on_by_default: Names of the built-in ones that have default settings.
            reserved: Further names that a plug-in cannot have.
        """
        self.kind, self.base = kind, base_class
        self._builtin, self._on_by_default = builtin, on_by_default
        plugins.declare(kind, base_class, builtin, reserved)
        TABLES[kind] = self

    def names(self) -> list[str]:
        """All names, in the order in which components are applied and shown."""
        return [*self._builtin, *sorted(plugins.names(self.kind))]

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in plugins.names(self.kind)

    def __getitem__(self, name: str) -> type[C]:
        """The component of a name.

        Raises:
            RecipeError: There is none, or it is none of this kind.
        """
        place = self._builtin.get(name)
        if place is not None:
            module, _, attribute = place.partition(":")
            builtin: type[C] = getattr(import_module(module), attribute)
            return builtin
        if name not in plugins.names(self.kind):
            raise RecipeError(self._unknown(name))
        plugin: type[C] = plugins.component(self.kind, name)
        return plugin

    def label(self, name: str) -> str:
        """What reports call a component."""
        return self[name].label or name

    def release(self, name: str) -> tuple[str, str] | None:
        """Where a plug-in is from, and its version; None for what is built in."""
        return plugins.release(self.kind, name)

    def load(self, name: str, settings: base.Settings, context: LoadContext) -> C:
        """Load a component; see ``Component.load``.

        Raises:
            PluginError: It cannot be made; the message names it.
        """
        with contract(self.kind, name):
            loaded = self[name].load(settings, context)
        if not isinstance(loaded, self.base):
            raise PluginError(f"{self.kind} {name!r}: load() gave no {self.base.__name__}")
        return loaded

    def identity(self, name: str, settings: base.Settings, identify: Identify) -> object:
        """What results of a component depend on: its settings and version; of a plug-in its origin.

        Components of this package have no version until one changes its results.
        """
        component = self[name]
        with contract(self.kind, name):
            identity = name, component.identity(settings, identify)
        release = self.release(name) or component.version
        return identity if release is None else (*identity, release)

    def in_order(self, names: Any) -> list[str]:
        """Some names in the order of the table."""
        return [name for name in self.names() if name in names]

    def settings(
        self,
        name: str,
        values: Mapping[str, Any],
        name_place: tuple[str | int, ...] = (),
        values_place: tuple[str | int, ...] = (),
    ) -> base.Settings:
        """The settings of one component, from plain values.

        Args:
            name: Of the component.
            values: What a recipe sets of it.
            name_place: Where the name stands, for messages.
            values_place: Where the values stand.

        Raises:
            ValidationError: There is no such component, or a value is wrong.
        """
        if name not in self:
            problems = [_problem("component", self._unknown(name), name_place, name)]
            raise ValidationError.from_exception_data(self.kind, problems)
        try:
            return self[name].Settings.model_validate(values)
        except ValidationError as error:
            problems = [self._located(name, values_place, one) for one in error.errors()]
        raise ValidationError.from_exception_data(self.kind, problems)

    # A part of a recipe that maps names of components to their settings.

    def defaults(self) -> dict[str, Any]:
        """The settings of a recipe that names no component."""
        return self.validate({})

    def validate(self, value: Any) -> dict[str, Any]:
        """Settings by name, from plain values; None switches off what is on by default.

        Raises:
            ValidationError: With the place of each problem.
        """
        if not isinstance(value, Mapping):
            raise PydanticCustomError("model_type", "expected settings (KEY: VALUE)")
        problems: list[InitErrorDetails] = []
        given: dict[str, Any] = {}
        for name, item in value.items():
            if name not in self:
                problems.append(_problem("component", self._unknown(name), (str(name),), item))
                continue
            try:
                given[name] = None if item is None else self[name].Settings.model_validate(item)
            except ValidationError as error:
                problems += [self._located(name, (name,), one) for one in error.errors()]
        if problems:
            raise ValidationError.from_exception_data(self.kind, problems)
        defaults = {name: self[name].default for name in self._on_by_default}
        settings = defaults | given
        return {
            name: settings[name]
            for name in self.names()
            if name in settings and (settings[name] is not None or name in defaults)
        }

    def _located(self, name: str, place: tuple[str | int, ...], problem: Any) -> InitErrorDetails:
        kind, message = problem["type"], problem["msg"]
        if kind == "extra_forbidden":
            known = list(self[name].Settings.model_fields)
            kind, message = "component", f"unknown key{nearest(str(problem['loc'][-1]), known)}"
        return _problem(kind, message, (*place, *problem["loc"]), problem["input"])

    def _unknown(self, name: object) -> str:
        hint = nearest(str(name), self.names())
        advice = "one of your own is added by --plugin FILE.py"
        return f"there is no {self.kind} {name!r}{hint}; {advice}"


@dataclass(frozen=True, slots=True)
class ListedComponent:
    """A component as a list shows it.

    Attributes:
        kind: Such as ``scorer``.
        name: What recipes call it.
        label: What reports call it.
        origin: ``built in``; of a plug-in where it is from, and its version.
        about: The first line of its docstring.
        problem: Why it cannot be used, or None.
    """

    kind: str
    name: str
    label: str = ""
    origin: str = ""
    about: str = ""
    problem: str | None = None


def listed(kind: str) -> Iterator[ListedComponent]:
    """The components of a kind; a plug-in that cannot be imported is among them, and says so."""
    table = TABLES[kind]
    for name in table.names():
        try:
            component, release = table[name], table.release(name)
        except PluginError as error:
            yield ListedComponent(kind, name, problem=str(error))
            continue
        lines = (component.__doc__ or "").replace("``", "`").strip().splitlines()
        origin = "built in" if release is None else " ".join(release)
        yield ListedComponent(kind, name, table.label(name), origin, next(iter(lines), ""))


def _problem(
    kind: LiteralString, message: str, location: tuple[str | int, ...], given: object
) -> InitErrorDetails:
    # The template is the message as a whole: what a user wrote must not be read as one.
    error = PydanticCustomError(kind, "{message}", {"message": message})
    return InitErrorDetails(type=error, loc=location, input=given)
