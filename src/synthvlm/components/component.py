"""What a component is: a class in one file with a name, settings, and what it measures or makes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar

from synthvlm.components import settings as base
from synthvlm.components.settings import Identify, identity_values
from synthvlm.errors import RecipeError

__all__ = ["Component", "LoadContext"]


def _no_clients(*arguments: object) -> Any:
    raise RecipeError("an endpoint is not to be had here")


@dataclass(frozen=True, slots=True)
class LoadContext:
    """What a component may need to load, beside its settings.

    Attributes:
        device: A torch device such as ``cpu`` or ``cuda:0``.
        dtype: ``float32``, ``float16`` or ``bfloat16``: what models run in on that device.
        resources: What must be closed after use is entered into it.
        endpoint_client: Makes the client of a chat endpoint from the endpoint's settings, the
            model's name there, and the path in the recipe of what asks it.
    """

    device: str = "cpu"
    dtype: str = "float32"
    resources: ExitStack = field(default_factory=ExitStack)
    endpoint_client: Callable[[Any, str, str], Any] = _no_clients


class Component:
    """Base of everything that a table names.

    Attributes:
        name: What recipes call it; lower case letters, digits and underscores.
        label: What reports call it; by default the name.
        version: To be changed when its results change; fingerprints hold it. A plug-in needs one
            from the start, a component of this package with the first such change.
        Settings: What a recipe may set of it.
        default: The settings with which it is on where a recipe does not name it; None: off.
    """

    name: ClassVar[str]
    label: ClassVar[str] = ""
    version: ClassVar[str | None] = None
    Settings: ClassVar[type[base.Settings]] = base.Settings
    default: ClassVar[Any] = None

    @classmethod
    def load(cls, settings: Any, context: LoadContext) -> Component:
        """Make it ready for use. By default its own settings are its constructor's arguments.

        Args:
            settings: An instance of its ``Settings``.
            context: The device to run on, and the like.

        Raises:
            ModelError: A model cannot be found or loaded.
            MissingExtraError: A library is not installed.
        """
        return cls(**_own_settings(cls, settings))

    @classmethod
    def identity(cls, settings: Any, identify: Identify) -> object:
        """What its results depend on in its settings: plain values.

        By default those settings that differ from their defaults, see ``components.settings``.
        """
        return identity_values(settings, identify)


def _own_settings(component: type[Component], settings: base.Settings) -> dict[str, Any]:
    """The settings that a component adds to those that all of its kind have."""
    kind = [base for base in component.__mro__ if issubclass(base, Component)][-2]
    shared = kind.Settings.model_fields
    names = type(settings).model_fields
    return {name: getattr(settings, name) for name in names if name not in shared}
