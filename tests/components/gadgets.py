"""A kind of component that only tests know."""

from __future__ import annotations

from typing import ClassVar

from synthvlm.components.component import Component
from synthvlm.components.settings import Settings

__all__ = ["Gadget", "GadgetSettings", "Lever", "LeverSettings", "Wheel"]


class GadgetSettings(Settings):
    """What all gadgets have."""

    weight: float = 1.0


class Gadget(Component):
    """The base of gadgets."""

    Settings: ClassVar[type[Settings]] = GadgetSettings


class LeverSettings(GadgetSettings):
    """Settings of a lever."""

    length: int = 3


class Lever(Gadget):
    name: ClassVar[str] = "lever"
    label = "The lever"
    Settings = LeverSettings
    default = LeverSettings()

    def __init__(self, length: int = 3) -> None:
        self.length = length


class Wheel(Gadget):
    name: ClassVar[str] = "wheel"
