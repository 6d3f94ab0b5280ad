"""Plug-ins: components of users, from installed packages, files, or Python.

Three ways lead into a table, none of which touches this package:

- an installed package names its components as entry points: ``synthvlm.rules``,
  ``synthvlm.scorers``, ``synthvlm.generators``, ``synthvlm.selectors``, ``synthvlm.exporters``;
- ``--plugin FILE.py``, or ``load_plugin``, reads a file;
- ``register`` takes a class.

A recipe never names code: it only names what is registered. What a plug-in makes is known by its
name and its version: that of the package, the ``version`` of the class, or for a file without one
the file's content.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from synthvlm.components.component import Component
from synthvlm.errors import PluginError, first_line

__all__ = [
    "PluginFile",
    "component",
    "forget",
    "load_plugin",
    "loaded",
    "names",
    "register",
    "release",
    "restore",
]

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class PluginFile:
    """A plug-in's file, as it is sent to other processes.

    Attributes:
        path: Where it was read.
        text: Its source.
    """

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class _PlugIn:
    """A registered component.

    Attributes:
        component: The class.
        release: What fingerprints hold of it: where it is from, and its version.
        source: The file, or the class itself where Python passed it.
    """

    component: type[Component]
    release: tuple[str, str]
    source: PluginFile | type[Component]


@dataclass(slots=True)
class _Kind:
    base: type[Component]
    builtin: Mapping[str, str]
    taken: Collection[str]
    registered: dict[str, _PlugIn]
    installed: dict[str, EntryPoint] | None = None

    def entry_points(self, group: str) -> dict[str, EntryPoint]:
        if self.installed is None:
            installed: dict[str, EntryPoint] = {}
            for point in entry_points(group=group):
                other = installed.setdefault(point.name, point)
                if point.name in self.taken or other.value != point.value:
                    owner = "this package" if point.name in self.taken else _package(other)[0]
                    raise PluginError(
                        f"{group}: {point.name!r} of {_package(point)[0]} has a name that "
                        f"{owner} has already: uninstall one of them"
                    )
            self.installed = installed  # only what is sound is kept, so an error comes every time
        return self.installed


_kinds: dict[str, _Kind] = {}


def declare(
    kind: str, base: type[Component], builtin: Mapping[str, str], reserved: Collection[str]
) -> None:
    """Make a kind of component known, with the names that plug-ins cannot have."""
    _kinds[kind] = _Kind(base, builtin, {*builtin, *reserved}, {})


def names(kind: str) -> set[str]:
    """Names of the plug-ins of a kind.

    Raises:
        PluginError: Two installed packages have a component of one name.
    """
    known = _kinds[kind]
    return {*known.registered, *known.entry_points(f"synthvlm.{kind}s")}


def component(kind: str, name: str) -> Any:
    """The class of a plug-in.

    Raises:
        PluginError: Its package cannot be imported, or it is no component of the kind.
    """
    known = _kinds[kind]
    if name in known.registered:
        return known.registered[name].component
    point = known.entry_points(f"synthvlm.{kind}s")[name]
    try:
        component = point.load()
    except Exception as error:
        raise PluginError(
            f"{kind} {name!r} of {' '.join(_package(point))} cannot be imported: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    _check(kind, component)
    if component.name != name:
        raise PluginError(f"{kind} {name!r}: the entry point leads to one named {component.name!r}")
    return component


def release(kind: str, name: str) -> tuple[str, str] | None:
    """Where a plug-in is from, and its version; None for what is built in."""
    known = _kinds[kind]
    if name in known.builtin:
        return None
    if name in known.registered:
        return known.registered[name].release
    package, version = _package(known.entry_points(f"synthvlm.{kind}s")[name])
    return package, component(kind, name).version or version


def register(component: type[Component]) -> None:
    """Add a class to the table of its kind, for this process and the workers that it starts.

    Workers import the class by its name, so it must stand in a module that they can import.

    Raises:
        PluginError: It is no component, has no name or version, or its name is taken.
    """
    kind = _kind_of(component)
    _check(kind, component)
    if component.version is None:
        raise PluginError(
            f"{kind} {component.name!r} has no version, so its results cannot be known again: "
            f'set `version = "1"` in the class, and change it when its results change'
        )
    _add(kind, component, ("python", component.version), component)


def load_plugin(path: str | Path) -> None:
    """Run a Python file, and add the components that it defines to their tables.

    Raises:
        PluginError: The file cannot be read or run, or defines no component.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise PluginError(f"--plugin {path}: cannot be read: {reason}") from error
    _load(PluginFile(str(path), text))


def loaded() -> list[PluginFile | type[Component]]:
    """The registered plug-ins, for ``restore`` in another process."""
    sources = [plugin.source for known in _kinds.values() for plugin in known.registered.values()]
    return list(dict.fromkeys(sources))


def restore(sources: Iterable[PluginFile | type[Component]]) -> None:
    """Register the plug-ins of another process in this one."""
    for source in sources:
        if isinstance(source, PluginFile):
            _load(source)
        else:
            register(source)


def forget() -> None:
    """Take all registered plug-ins out of the tables again."""
    for known in _kinds.values():
        known.registered.clear()


def _load(file: PluginFile) -> None:
    content = hashlib.sha256(file.text.encode("utf-8")).hexdigest()[:16]
    name = f"synthvlm_plugin_{content}"
    module = sys.modules.get(name)
    if module is None:
        module = ModuleType(name)
        module.__file__ = file.path
        sys.modules[name] = module  # dataclasses and pickle look a class's module up
        try:
            exec(compile(file.text, file.path, "exec"), module.__dict__)
        except Exception as error:
            del sys.modules[name]
            raise PluginError(
                f"--plugin {file.path}: {type(error).__name__}: {first_line(error)}"
            ) from error
    own = list(_components_of(module))
    # One without a name may be what others have in common.
    components = [one for one in own if hasattr(one, "name")] or own
    if not components:
        raise PluginError(
            f"--plugin {file.path}: defines no component: no class in it is a subclass of "
            f"{', '.join(sorted(known.base.__name__ for known in _kinds.values()))}"
        )
    for one in components:
        _add(_kind_of(one), one, ("file", one.version or content), file)


def _components_of(module: ModuleType) -> Iterator[type[Component]]:
    bases = tuple(known.base for known in _kinds.values())
    for value in list(vars(module).values()):
        is_own = isinstance(value, type) and value.__module__ == module.__name__
        if is_own and any(base in value.__mro__ for base in bases):
            yield value


def _add(
    kind: str,
    component: type[Component],
    release: tuple[str, str],
    source: PluginFile | type[Component],
) -> None:
    _check(kind, component)
    known = _kinds[kind]
    other = known.registered.get(component.name)
    if component.name in {*known.taken, *known.entry_points(f"synthvlm.{kind}s")}:
        raise PluginError(f"there is a {kind} {component.name!r} already: give yours another name")
    if other is not None and not _is_same(other, component, source):
        raise PluginError(f"two plug-ins have a {kind} {component.name!r}: name one of them anew")
    known.registered[component.name] = _PlugIn(component, release, source)


def _is_same(
    other: _PlugIn, component: type[Component], source: PluginFile | type[Component]
) -> bool:
    """Whether a component takes the place of its own earlier self: read again, or defined again."""
    if isinstance(source, PluginFile):
        return isinstance(other.source, PluginFile) and other.source.path == source.path
    places = [(one.__module__, one.__qualname__) for one in (other.component, component)]
    return not isinstance(other.source, PluginFile) and places[0] == places[1]


def _kind_of(component: object) -> str:
    for kind, known in _kinds.items():
        if isinstance(component, type) and known.base in component.__mro__:
            return kind
    bases = ", ".join(sorted(known.base.__name__ for known in _kinds.values()))
    raise PluginError(f"{component!r} is no component: make it a subclass of one of {bases}")


def _check(kind: str, component: Any) -> None:
    """Refuse what is no component of the kind."""
    if _kind_of(component) != kind:
        raise PluginError(f"{component!r} is no {kind}: make it a subclass of its base class")
    name = getattr(component, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError(
            f"{kind} {component.__name__}: its name is {name!r}; give it one of lower case "
            f"letters, digits and underscores"
        )
    base, settings = _kinds[kind].base.Settings, component.Settings
    if not (isinstance(settings, type) and issubclass(settings, base)):
        raise PluginError(f"{kind} {name!r}: its Settings must be a subclass of {base.__name__}")


def _package(point: EntryPoint) -> tuple[str, str]:
    distribution = point.dist
    assert distribution is not None
    return distribution.name, distribution.version
