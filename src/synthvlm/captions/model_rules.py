"""What a caption rule with a model is.

Such a rule is dear, so it is asked only about captions that passed every rule before it. Like all
rules it measures and gives no verdict: bounds are applied to what it measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Measured", "ModelRule", "Subject"]


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


class ModelRule(Protocol):
    """A caption rule with a model: a name, and a measure of each caption."""

    name: ClassVar[str]

    def measure(self, subjects: Sequence[Subject]) -> Measured:
        """Measure captions; one that fails spoils no other.

        Raises:
            ModelError: The model cannot be used at all.
        """
        ...
