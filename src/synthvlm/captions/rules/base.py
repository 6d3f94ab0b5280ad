"""What a caption rule is.

A rule only measures: it says of each caption a number, and the bounds of the recipe decide. So a
bound can change without a new measurement. A caption is **kept** if its measure lies within the
bounds, both inclusive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from synthvlm.captions.rules.batch import TextBatch
from synthvlm.components.component import Component
from synthvlm.components.settings import InHash, Settings
from synthvlm.errors import PluginError

__all__ = [
    "LanguageBounds",
    "Measured",
    "ModelRule",
    "Rule",
    "RuleSettings",
    "Subject",
    "TextRule",
    "check_measured",
    "check_measures",
]


class LanguageBounds(Settings):
    """Bounds for captions in one language, both inclusive."""

    min: float | None = Field(None, description="Lowest that passes.")
    max: float | None = Field(None, description="Highest that passes.")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: nothing could pass")
        return self

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Lowest and highest allowed value, both inclusive; None for no bound."""
        return self.min, self.max


class RuleSettings(LanguageBounds):
    """Keep a caption whose measure lies within the bounds, both inclusive."""

    min: Annotated[float | None, InHash.NEVER] = Field(None, description="Lowest that passes.")
    max: Annotated[float | None, InHash.NEVER] = Field(None, description="Highest that passes.")
    languages: Annotated[dict[str, LanguageBounds], InHash.NEVER] = Field(
        {}, description="Bounds for captions in other languages, by ISO 639 code: {de: {min: 0.1}}."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("needs min, max or both (null switches the rule off)")
        return self


class Rule(Component):
    """A caption rule; yours is a ``TextRule`` or a ``ModelRule``.

    Attributes:
        needs_image: Whether it looks at the original image of a caption; one without is let pass.
        needs_english: Whether its default bounds, or its lists or model, are for English.
        needs_words: Whether it counts words, and so sees nothing in a script without spaces.
    """

    Settings: ClassVar[type[Settings]] = RuleSettings
    needs_english: ClassVar[bool] = False
    needs_words: ClassVar[bool] = False
    needs_image: ClassVar[bool] = False


class TextRule(Rule):
    """A rule that measures a text by itself; every input caption is measured."""

    def measure(self, batch: TextBatch) -> npt.NDArray[np.float64]:
        """The measure of each text, never NaN: float64, shape (len(batch),)."""
        raise NotImplementedError


class ModelRule(Rule):
    """A rule with a model. It is expensive, so only captions that all other rules kept are asked.

    What is measured once is kept: a changed bound asks nothing again.
    """

    def measure(self, subjects: Sequence[Subject]) -> Measured:
        """Measure captions; one that fails spoils no other.

        Raises:
            ModelError: The model cannot be used at all.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Subject:
    """A caption to measure.

    Attributes:
        text: The normalised caption.
        image: The encoded original image, or None where the caption has none.
    """

    text: str
    image: bytes | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What a rule measured of some captions.

    Attributes:
        values: One number per caption, NaN where the rule does not apply to it (it has no
            original image, say) or failed; float64, shape (n,).
        problems: For each caption why measuring it failed, or None.
    """

    values: npt.NDArray[np.float64]
    problems: tuple[str | None, ...]


def check_measures(name: str, values: object, count: int) -> None:
    """Hold a rule on texts to its contract.

    Raises:
        PluginError: Its measures are not one number for each text; the message names it.
    """
    if np.isnan(_numbers(name, values, count)).any():
        raise PluginError(f"rule {name!r}: it measured NaN: each text needs a number")


def check_measured(name: str, measured: object, count: int) -> None:
    """Hold a rule with a model to its contract.

    Raises:
        PluginError: It does not say one number and one problem or None of each caption; the
            message names it.
    """
    if not isinstance(measured, Measured):
        raise PluginError(f"rule {name!r}: it returned {type(measured).__name__}, not Measured")
    _numbers(name, measured.values, count)
    if len(measured.problems) != count:
        raise PluginError(
            f"rule {name!r}: it returned {len(measured.problems)} problems for {count} captions"
        )


def _numbers(name: str, values: object, count: int) -> npt.NDArray[np.float64]:
    if not isinstance(values, np.ndarray) or values.shape != (count,):
        actual_shape = f"shape {values.shape}" if isinstance(values, np.ndarray) else "no array"
        raise PluginError(f"rule {name!r}: its measures have {actual_shape}, not shape ({count},)")
    if values.dtype.kind not in "fiub":
        raise PluginError(f"rule {name!r}: its measures are of type {values.dtype}, no numbers")
    return values
