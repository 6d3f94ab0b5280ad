"""Names of private people in a caption, and what finds them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from synthvlm.captions.batch import TextBatch
from synthvlm.captions.model_rules import Measured, Subject
from synthvlm.captions.name_forms import TITLES, NameForms, folded_words
from synthvlm.errors import RecipeError

__all__ = ["NameRecogniser", "PersonNames", "TaggedNames", "load_allowed_names"]


class NameRecogniser(Protocol):
    """Finds names of people: ``NameForms``, ``NameTagger``, or your own."""

    def find(self, texts: Sequence[str]) -> list[list[str]]:
        """The names in each text, as written, in order; one list per text."""
        ...


class PersonNames:
    """Number of people's names in each text, those of allowed people left out.

    An allowed name covers itself and its last word alone: "Ada Lovelace" allows "ada lovelace",
    "Mrs. Lovelace" and "Dr. Ada Lovelace", not "Ada", and not "Jane Lovelace". Letter case,
    accents, punctuation and titles are ignored.
    """

    name: ClassVar[str] = "person_names"

    def __init__(
        self, recogniser: NameRecogniser | None = None, allowed: Iterable[str] = ()
    ) -> None:
        """Count what the recogniser finds.

        Args:
            recogniser: What finds names; None is ``NameForms``, the light built-in one.
            allowed: Full names of public or fictional figures, which do not count; see
                ``load_allowed_names``.
        """
        self._recogniser = NameForms() if recogniser is None else recogniser
        words = [_name_words(name) for name in allowed]
        self._allowed = frozenset([*words, *(w[-1:] for w in words)])

    def measure(self, batch: TextBatch) -> npt.NDArray[np.float64]:
        """The number (0 or more, whole) of names in each text, shape (len(batch),)."""
        found = self._recogniser.find(batch.texts)
        counts = (sum(map(self._counts, names)) for names in found)
        return np.fromiter(counts, np.float64, len(batch))

    def _counts(self, name: str) -> bool:
        return _name_words(name) not in self._allowed


class TaggedNames:
    """``PersonNames`` with a recogniser that is a model: asked about survivors only."""

    name: ClassVar[str] = "tagged_names"

    def __init__(self, recogniser: NameRecogniser, allowed: Iterable[str] = ()) -> None:
        """Count what the recogniser finds, as ``PersonNames`` does."""
        self._names = PersonNames(recogniser, allowed)

    def measure(self, subjects: Sequence[Subject]) -> Measured:
        """The number (0 or more, whole) of names in each caption.

        Raises:
            ModelError: The model fails.
        """
        texts = [subject.text for subject in subjects]
        return Measured(self._names.measure(TextBatch(texts)), (None,) * len(texts))


def load_allowed_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read a UTF-8 file with one full name a line; lines that begin with ``#`` are comments.

    Raises:
        RecipeError: The file is missing, unreadable, or holds no name.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise RecipeError(f"allowed names: cannot read {path}: {reason}") from error
    lines = (line.strip() for line in text.splitlines())
    names = tuple(line for line in lines if line and not line.startswith("#"))
    if not names:
        raise RecipeError(f"allowed names: {path} holds no name; write one a line")
    return names


def _name_words(name: str) -> tuple[str, ...]:
    """The words of a name that tell who it is."""
    words = folded_words(name)
    while len(words) > 1 and words[0] in TITLES:
        words = words[1:]
    return tuple(words)
