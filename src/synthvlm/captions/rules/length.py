"""How long a caption is, in characters and in words."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from synthvlm.captions.rules.base import TextRule
from synthvlm.captions.rules.batch import TextBatch

__all__ = ["CharCount", "WordCount"]


class CharCount(TextRule):
    """Number of characters (code points, spaces too)."""

    name: ClassVar[str] = "char_count"
    label = "Characters"

    def measure(self, batch: TextBatch) -> npt.NDArray[np.float64]:
        """The number (0 or more, whole) of each text, shape (len(batch),)."""
        return batch.lengths.astype(np.float64)


class WordCount(TextRule):
    """Number of refined words, see ``batch.Words``: a lone dash or number is none."""

    name: ClassVar[str] = "word_count"
    label = "Words"

    def measure(self, batch: TextBatch) -> npt.NDArray[np.float64]:
        """The number (0 or more, whole) of each text, shape (len(batch),)."""
        return np.diff(batch.words.starts).astype(np.float64)
